"""Charts that are drawn as text: axes, lines, histograms."""
