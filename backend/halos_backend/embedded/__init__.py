"""Holds the built-in task, tokenizer and tiny models behind `halos-tui demo`: no GPU, no
network.
"""
