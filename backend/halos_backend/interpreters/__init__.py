"""Owns the Python interpreters that stages run in: what one has, and how our code gets into
another's.
"""
