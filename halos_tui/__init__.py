"""This package is all that a person sees: the command line, the app, the views without a screen."""
