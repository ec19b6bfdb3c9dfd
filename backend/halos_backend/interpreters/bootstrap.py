"""Runs a module of ours in another interpreter: `python bootstrap.py MODULE ARGUMENTS...`.

Standard library only. PYTHONPATH names the folder that holds `halos_backend` and nothing else.
"""

import importlib.util
import runpy
import sys
from pathlib import Path

MIN_PYTHON = (3, 11)
NEEDED = ("msgspec", "psutil", "pydantic", "torch", "transformers")
USAGE = 2


def main() -> None:
    """Becomes the module; exits 2 with the reason where something that it needs is missing."""
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here]
    if reason := missing():
        sys.stderr.write(reason + "\n")
        sys.exit(USAGE)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def missing() -> str:
    """Says what this interpreter lacks, and how to add it; empty where it lacks nothing."""
    if sys.version_info < MIN_PYTHON:
        return f"{sys.executable} is older than Python {'.'.join(map(str, MIN_PYTHON))}"
    names = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if not names:
        return ""
    return (
        f"{sys.executable} has no {', '.join(names)}, which our stages need:"
        f" {sys.executable} -m pip install {' '.join(names)}"
    )


if __name__ == "__main__":
    main()
