"""What can be asked of runs, and asking it."""
