"""Is the label stage: rewards of the round's completions, and feedback made of them."""
