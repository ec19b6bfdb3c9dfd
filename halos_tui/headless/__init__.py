"""Views without a screen: lines, JSON lines, a compact live view; and what `export` writes."""
