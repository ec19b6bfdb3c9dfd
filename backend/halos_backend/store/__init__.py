"""Owns the run directory: where each file is, and how it is written, read and folded into
a state.
"""
