"""The form of a run's settings, made from the schema, and what a change of them costs."""
