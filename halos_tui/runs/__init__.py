"""The list of runs: its columns, its filter, read again only where something changed."""
