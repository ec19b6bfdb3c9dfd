"""Owns the settings of notifications."""

from __future__ import annotations

from typing import Literal

from halos_backend.config.table import Positive, Table

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
