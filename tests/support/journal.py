"""Reads a run's journal for the cases, as plain JSON or folded."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from halos_backend.store.reader import run_journal
from halos_backend.store.state import RunState, fold

Event = dict[str, Any]


def read_events(path: Path) -> list[Event]:
    """The whole events; a line that was torn and then ended by the next writer is none."""
    content = path.read_bytes()
    events: list[Event] = []
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        with contextlib.suppress(ValueError):
            events.append(json.loads(line))
    return events


def read_state(path: Path) -> RunState:
    return fold(run_journal(path).read())
