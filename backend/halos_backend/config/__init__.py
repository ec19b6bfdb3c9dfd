"""Owns the settings of a run: their schema, how a run file is read, and the files `init` writes."""
