"""The metrics of runs as series, to lay over each other: reading them, and taking them out."""
