"""One run as a reader sees it: its state, its rounds, its curves, how long it still takes."""
