"""What the completions screen shows, read and laid out without the screen."""
