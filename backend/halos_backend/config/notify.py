"""Owns the settings of notifications, and which events are worth one."""

from __future__ import annotations

from typing import Literal

from halos_backend.config.table import Positive, Table
from halos_backend.events import (
    AttemptEvent,
    GuardTripped,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunPaused,
)

Occasion = Literal["paused", "failed", "guard", "completed"]


class NotifySettings(Table):
    """Who is told when the run stops or needs its owner. A failure to tell never harms the run."""

    command: tuple[str, ...] = ()
    """A program and its arguments; it gets the event as JSON on standard input. Empty is off."""
    bell: bool = False
    """Ring the bell of the terminals that follow the run."""
    on: tuple[Occasion, ...] = ("paused", "failed", "guard", "completed")
    """When."""
    timeout_s: Positive = 30.0
    """The command is killed after this."""


def occasion_of(event: RunEvent | AttemptEvent) -> Occasion | None:
    """Returns what an event is an occasion to tell the owner of; None for most."""
    match event:
        case RunPaused():
            return "paused"
        case RunFailed():
            return "failed"
        case GuardTripped():
            return "guard"
        case RunCompleted():
            return "completed"
        case _:
            return None
