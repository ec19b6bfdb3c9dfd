"""Is the judge behind an API: what it reads, how it is called, what its answers mean."""
