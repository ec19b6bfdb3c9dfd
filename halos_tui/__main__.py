"""Runs the command line for `python -m halos_tui`.

Python itself imports `types` and a few others before this, from the working directory first: where
that has a `types.py`, only the script `halos-tui` and `python -P -m halos_tui` work.
"""

import sys

if __name__ == "__main__" and __spec__ is not None and not sys.flags.safe_path:
    del sys.path[0]  # the working directory, whose `random.py` is not for us

from halos_tui.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
