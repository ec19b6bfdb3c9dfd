"""Widgets that draw plain data line by line; none of them reads a file."""
