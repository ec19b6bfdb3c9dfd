"""This folder follows one run: its journals, status, rounds, and how long it still takes."""
