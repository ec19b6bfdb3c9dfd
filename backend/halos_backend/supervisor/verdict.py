"""Judges an attempt that has ended: whether it counts, and if not, why and what it leaves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from halos_backend.errors import CorruptFileError, ExitCode
from halos_backend.events import Cause, Stage
from halos_backend.store.live import fold_attempt
from halos_backend.store.reader import attempt_journal
from halos_backend.store.run_dir import AttemptDir

PARTIAL_STEP = re.compile(r"step_(\d+)")


class Failure(NamedTuple):
    """Why an attempt has no result."""

    reason: str
    cause: Cause


def why_failed(attempt: AttemptDir, exit_code: int | None, *, num_oom_kills: int) -> Failure:
    """The stage's own last word, else how its process ended.

    A SIGKILL is the kernel's, for want of memory, only when its `oom_kill` count rose meanwhile.
    """
    try:
        live = fold_attempt(attempt_journal(attempt.events).read())
    except (OSError, CorruptFileError) as error:
        return Failure(f"it ended without DONE, and its journal cannot be read: {error}", "crashed")
    if live.failure is not None:
        return Failure(live.failure, live.cause)
    if exit_code is None:
        return Failure("it ended without DONE while no supervisor watched", "lost")
    if exit_code != 0 and num_oom_kills > 0:
        return Failure(
            "the kernel killed it: the machine or its cgroup ran out of memory (oom_kill rose)",
            "out_of_memory",
        )
    if exit_code < 0:
        return Failure(f"its process was killed by signal {-exit_code}", "crashed")
    cause: Cause = "refused" if exit_code == ExitCode.USAGE else "crashed"
    return Failure(
        f"its process ended with exit code {exit_code} and no DONE; see {attempt.log}", cause
    )


def count_durable(attempt: AttemptDir, stage: Stage) -> int:
    """What a later attempt can take over: complete rows, or optimizer steps."""
    match stage:
        case "sample":
            return _num_lines(attempt.completions)
        case "label":
            return _num_lines(attempt.rewards)
        case "train":
            steps = [
                int(match[1])
                for path in attempt.partial_state.glob("step_*")
                if (match := PARTIAL_STEP.fullmatch(path.name))
            ]
            return max(steps, default=0)


def _num_lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except OSError:
        return 0
