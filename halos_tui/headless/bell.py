"""Rings the terminal's bell when the followed run stops or needs its owner."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from halos_backend.config.notify import occasion_of
from halos_backend.events import AttemptEvent, RunEvent
from halos_backend.store.state import RunState


class Bell:
    """Rings once for all that one look finds, where `notify.bell` is set and a terminal is there.

    The first look is silent: what it finds may be long past.
    """

    def __init__(self) -> None:
        self._has_looked = False

    def hear(self, events: Iterable[RunEvent | AttemptEvent], state: RunState) -> None:
        is_first, self._has_looked = not self._has_looked, True
        notify = state.settings_of(state.round_at_hand).get("notify", {})
        if is_first or not notify.get("bell"):
            return
        if any(occasion_of(event) in notify["on"] for event in events) and sys.stderr.isatty():
            sys.stderr.write("\a")
            sys.stderr.flush()
