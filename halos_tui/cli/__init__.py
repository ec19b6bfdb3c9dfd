"""The command line has one verb a file, each of which parses, calls, and returns an exit code."""
