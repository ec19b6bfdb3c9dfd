"""Is the train stage: the round's feedback made into the next policy."""
