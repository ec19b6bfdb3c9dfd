"""This folder draws charts as text: axes, lines, histograms."""
