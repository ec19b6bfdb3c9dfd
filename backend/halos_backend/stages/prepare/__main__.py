"""Checks the inputs and freezes the prompts: `python -m halos_backend.stages.prepare --run-dir
DIR`.
"""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Sequence
from pathlib import Path

from halos_backend.defects import tell_defect
from halos_backend.errors import ExitCode, HalosError
from halos_backend.findings import refuse_inputs
from halos_backend.stages.runtime import importing, leave, set_threads
from halos_backend.store.run_dir import RunDir


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the check; progress goes to standard output, what is wrong with the inputs into
    `prepared.json`.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--has-prompts", action="store_true")
    given = parser.parse_args(arguments)
    run_dir = RunDir(given.run_dir)
    set_threads(1)
    with importing():  # after the threads are set
        from halos_backend.stages.prepare.prepare import prepare

    try:
        refuse_inputs(prepare(run_dir, has_prompts=given.has_prompts))
    except HalosError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            said = f"no space left on the disk of {run_dir.path}; free some"
        else:
            said = f"{error.filename}: {error.strerror}" if error.filename else tell_defect(error)
        print(said, file=sys.stderr)  # noqa: T201
        return ExitCode.FAILED
    except Exception as error:  # noqa: BLE001  the edge of the process
        print(tell_defect(error), file=sys.stderr)  # noqa: T201
        return ExitCode.FAILED
    return ExitCode.COMPLETED


if __name__ == "__main__":
    leave(main())
