"""Owns what a screen or a verb may call: start a run, ask its supervisor, fork it, remove it."""
