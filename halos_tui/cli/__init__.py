"""The command line: one verb a file, each of which parses, calls, and returns an exit code."""
