"""A run of which all was killed in the train stage of round 2, after its first step: made once."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.chaos.chaos_run import ChaosRun
from tests.chaos.reference import NAME, get_reference, one_at_a_time


def get_stopped(shared: Path) -> Path:
    """Its run directory, to begin with a copy of it; nothing of the run lives."""
    reference = get_reference(shared, "plain")
    path = shared / "stopped"
    with one_at_a_time(shared):
        if not (path / "made").exists():
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
            _make(ChaosRun(reference, path))
            (path / "made").touch()
    return path / "runs" / NAME


def _make(run: ChaosRun) -> None:
    try:
        run.begin()
        run.wait_for_event("StageStarted", round=2, stage="train")
        partial = run.attempt(2, "train", 1) / "partial_state"
        run.wait_for(lambda: list(partial.glob("step_*")), "a training state")
        run.strike("client", "guardian", "supervisor", "stage")
    finally:
        run.close()
