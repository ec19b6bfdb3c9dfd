"""This folder shows the history of a run's settings, and what two of its rounds differ in."""
