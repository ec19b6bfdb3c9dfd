"""Losses as pure functions, one paper per file; values per example or per token, never reduced."""
