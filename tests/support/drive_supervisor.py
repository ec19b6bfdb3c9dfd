"""The supervisor's own program, with `fake_stage.py` for every stage."""

import os
import resource
import sys
from pathlib import Path

from halos_backend.events import Stage
from halos_backend.store import round_state
from halos_backend.supervisor.__main__ import main
from halos_backend.supervisor.processes import stage_runner

FAKE_STAGE = Path(__file__).with_name("fake_stage.py")


def fake_command(stage: Stage, attempt_dir: Path, num_processes: int) -> list[str]:
    python = sys.orig_argv[0]  # also where another program stands for it
    return [python, "-I", "-S", str(FAKE_STAGE), str(attempt_dir)]


if __name__ == "__main__":
    stage_runner.STOP_GRACE_S = float(os.environ.get("TEST_GRACE_S", "10"))
    retry_delay_s = os.environ.get("TEST_RETRY_DELAY_S", round_state.FIRST_DELAY_S)
    round_state.FIRST_DELAY_S = float(retry_delay_s)
    if limit := os.environ.get("TEST_FILE_LIMIT"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    sys.exit(main(command=fake_command))
