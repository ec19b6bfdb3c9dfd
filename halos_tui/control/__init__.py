"""This folder knows what can be asked of runs, and asks it."""
