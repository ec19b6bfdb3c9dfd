"""One run as a reader follows it: its journals, its status, its rounds, how long it still takes."""
