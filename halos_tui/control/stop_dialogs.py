"""Asks how a run is to stop; it stands alone because `stopping` is pure and these are widgets."""

from __future__ import annotations

from typing import Literal

from halos_backend.store.requests import When
from halos_backend.store.run_dir import RunDir

from halos_tui.control.stopping import abort_times, abort_words, running, stays, stops
from halos_tui.screens.dialogs import Choice, ChoiceDialog
from halos_tui.tracking import rounds
from halos_tui.tracking.status import Observation

PausingAnswer = Literal["stage", "resume"]
KEYS: dict[When, str] = {"now": "o", "stage": "s", "round": "r"}
"""None is `a`, which opens the dialog, or `n`, which means no."""


def abort_dialog(run_dir: RunDir, seen: Observation) -> ChoiceDialog[When]:
    """Says what stops, what stays, and when; the latest comes first, since it loses least."""
    return ChoiceDialog(
        f"Abort {run_dir.name} for good?",
        f"{stops(seen)}\n{stays(run_dir, seen)}",
        [Choice(KEYS[when], abort_words(when, seen), when) for when in reversed(abort_times(seen))],
    )


def pausing_dialog(run_dir: RunDir, seen: Observation) -> ChoiceDialog[PausingAnswer]:
    """Asks about a run that pauses already."""
    choices: list[Choice[PausingAnswer]] = [Choice("g", "go on after all", "resume")]
    if seen.state.pause_at == "round" and (now := running(seen)):
        choices.append(Choice("s", f"pause sooner: when {now} is done", "stage"))
    where = rounds.boundary(seen.state) or "at the next boundary"
    return ChoiceDialog(f"{run_dir.name} pauses {where}", "", choices)
