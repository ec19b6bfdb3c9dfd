"""Logs of any size as a screen or a verb reads them: found, paged, searched."""
