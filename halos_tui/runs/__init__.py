"""This folder shows the list of runs: its columns, its filter; it reads only what changed."""
