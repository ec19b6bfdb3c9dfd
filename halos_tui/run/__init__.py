"""This folder shows one run: its state, its rounds, its curves, how long it still takes."""
