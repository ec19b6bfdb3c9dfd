"""Everything a person sees: the command line and the headless views. Reads files, draws, asks."""
