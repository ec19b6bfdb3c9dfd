"""`python -m halos_tui`: the command line without its console script."""

import sys

from halos_tui.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
