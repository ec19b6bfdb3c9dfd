"""Is the sample stage: completions of the round's prompts from the current policy."""
