"""This folder owns the form of a run's settings, made from the schema, and what a change costs."""
