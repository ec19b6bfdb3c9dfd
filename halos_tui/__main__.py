"""`python -m halos_tui`: the command line without its console script."""

import sys

if __name__ == "__main__" and __spec__ is not None and not sys.flags.safe_path:
    del sys.path[0]  # the working directory, whose `random.py` is not for us

from halos_tui.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
