"""The check before a run exists: policy, judge and prompts; the prompts are frozen here."""
