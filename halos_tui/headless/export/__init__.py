"""This folder writes what `export` exports, one format a file; rows are streamed."""
