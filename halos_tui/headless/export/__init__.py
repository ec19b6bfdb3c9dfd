"""What `export` writes, a format a module. Rows are streamed from the run's files."""
