"""Is the supervisor's program: `python -m halos_backend.supervisor --run-dir DIR`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from halos_backend.errors import ExitCode, HalosError, RunNotFoundError
from halos_backend.store.run_dir import RunDir, command_for
from halos_backend.supervisor.heartbeat import take_lock
from halos_backend.supervisor.loop import Supervisor
from halos_backend.supervisor.processes.commands import stage_command
from halos_backend.supervisor.processes.workers import MakeCommand


def main(*, command: MakeCommand = stage_command) -> int:
    """Supervises one run to its end; returns the exit code of what went wrong, or 0."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run-dir", type=Path, required=True)
    # the stages carry the path in their environment: a run has one name for it
    run_dir = RunDir(parser.parse_args().run_dir.resolve())
    try:
        _supervise(run_dir, command)
    except HalosError as error:
        print(error, file=sys.stderr)  # noqa: T201  standard error is supervisor.log
        return error.exit_code
    except OSError as error:
        text = f"{error}; once that is mended: {command_for(run_dir, 'resume')}"
        print(text, file=sys.stderr)  # noqa: T201
        return ExitCode.FAILED
    return ExitCode.COMPLETED


def _supervise(run_dir: RunDir, command: MakeCommand) -> None:
    if not run_dir.events.is_file():
        raise RunNotFoundError(f"{run_dir.path} is no run directory: it has no events.jsonl")
    take_lock(run_dir)
    Supervisor(run_dir, command=command).run()


if __name__ == "__main__":
    sys.exit(main())
