"""This folder owns what a terminal is sent: differences of pictures, and filters of lines."""
