"""Runs the round loop: what comes next, and the processes that do it."""
