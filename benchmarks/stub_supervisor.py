"""This is the supervisor's own program, with `stub_stage.py` for every stage."""

import sys
from pathlib import Path

from halos_backend.events import Stage
from halos_backend.supervisor.__main__ import main

STAGE = Path(__file__).with_name("stub_stage.py")


def stub_command(_stage: Stage, attempt_dir: Path, _num_processes: int) -> list[str]:
    return [sys.executable, "-I", "-S", str(STAGE), str(attempt_dir)]


if __name__ == "__main__":
    sys.exit(main(command=stub_command))
