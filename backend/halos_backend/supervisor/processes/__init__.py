"""Owns the processes of a run: the guardian, stages and workers; how they start and how
they end.
"""
