"""Dialogs over a screen: a question, a line of text, how to stop, a fork."""
