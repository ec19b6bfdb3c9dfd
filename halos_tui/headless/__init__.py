"""This folder has the views without a screen: lines, JSON lines, a live view; and exports."""
