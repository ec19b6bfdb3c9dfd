"""Runs whose settings change on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halos_backend.events import SettingsChanged
from halos_backend.settings_json import apply_changes, value_at
from halos_backend.store.requests import new_request_id

from tests.support.made_run import STARTED_T, MadeRun

LR = 5e-6


def steered_run(root: Path, name: str = "a-run", *, num_prompts: int = 10) -> MadeRun:
    """Of five rounds of two prompts; none has begun."""
    run = MadeRun(root, name, num_rounds=5, num_prompts=num_prompts)
    run.settings["train"]["lr"] = LR
    return run


def change(
    run: MadeRun, from_round: int, *, by: str = "alice@box", t: float = 0.0, **settings: Any
) -> None:
    """Settings by path, with two underscores for a dot. Rounds that start later have them all."""
    new = {name.replace("__", "."): value for name, value in settings.items()}
    changes = {path: (value_at(path, run.settings), value) for path, value in new.items()}
    run.settings = apply_changes(run.settings, changes)
    run.say(
        SettingsChanged(
            t=t or STARTED_T + 100,
            request_id=new_request_id(),
            from_round=from_round,
            changes=changes,
            consequences=["it goes faster"],
            by=by,
        )
    )
