"""Runs halos-tui's work: settings, store, supervisor, stages. Nothing here draws."""

__version__ = "0.1.0"

SCHEMA_VERSION = 1
"""Is the version of every file that outlives a program version: journal, job, manifest,
settings.
"""
