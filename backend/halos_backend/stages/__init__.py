"""The programs that a round is made of. The only place that imports machine learning libraries."""
