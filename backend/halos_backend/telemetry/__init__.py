"""Reads what the machine and its GPUs do, and keeps a record of it."""
