"""Runs of which all was killed in the train stage of round 2, after its first step.

One of each kind is made; the cases begin with copies of it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from halos_backend.events import STAGES, Stage
from halos_backend.store.run_dir import RunDir

from tests.support.chaos_run import ChaosRun
from tests.support.journal import read_events
from tests.support.reference import NAME, get_reference, one_at_a_time

ROUND = 2


def get_stopped(shared: Path, kind: str) -> Path:
    """Return its run directory; nothing of the run lives."""
    reference = get_reference(shared, kind)
    path = shared / f"stopped_{kind}"
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
        run.wait_for_event("StageStarted", round=ROUND, stage="train")
        partial = run.attempt(ROUND, "train", 1).partial_state
        run.wait_for(lambda: list(partial.glob("step_*")), "a training state")
        run.strike("client", "guardian", "supervisor", "stage", "idle")
    finally:
        run.close()


def set_back(run: RunDir, stage: Stage) -> None:
    """Make a stopped run one that stopped in an earlier stage of the same round.

    The stage's outputs stay whole and `DONE` stands beside them: it ended while nobody watched.
    """
    lines = run.events.read_bytes().splitlines(keepends=True)
    place = {"type": "StageStarted", "round": ROUND, "stage": stage}
    index = next(i for i, e in enumerate(read_events(run.events)) if place.items() <= e.items())
    run.events.write_bytes(b"".join(lines[: index + 1]))
    run.state.unlink()
    for later in STAGES[STAGES.index(stage) + 1 :]:
        shutil.rmtree(run.round(ROUND) / later)
