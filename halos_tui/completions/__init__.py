"""This folder shows the completions of a run: it reads them, lists them and lays out pages."""
