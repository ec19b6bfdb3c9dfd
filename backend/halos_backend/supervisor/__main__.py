"""The supervisor's program: `python -m halos_backend.supervisor --run-dir DIR`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from halos_backend.config.schema import RunSettings
from halos_backend.errors import HalosError
from halos_backend.store.run_dir import RunDir
from halos_backend.supervisor.lock import take_lock
from halos_backend.supervisor.loop import Supervisor


def main() -> int:
    """Supervise one run to its end; returns the exit code of what went wrong, or 0."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run-dir", type=Path, required=True)
    run_dir = RunDir(parser.parse_args().run_dir)
    try:
        take_lock(run_dir)
        settings = RunSettings.model_validate_json(run_dir.resolved_config.read_bytes())
        supervisor = Supervisor(run_dir, settings)
        supervisor.run()
    except HalosError as error:
        print(error, file=sys.stderr)  # noqa: T201  standard error is supervisor.log
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
