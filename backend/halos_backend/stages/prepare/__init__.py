"""Checks a run's inputs before the run exists: policy, judge and prompts; the prompts are frozen
here.
"""
