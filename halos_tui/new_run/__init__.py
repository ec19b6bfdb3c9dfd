"""This folder makes new runs: what they begin with, their plan, their checks, making them."""
