"""What the terminal gets: the difference between two pictures, and filters of lines."""
