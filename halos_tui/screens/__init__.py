"""This folder has what all screens share, and screens that show no run."""
