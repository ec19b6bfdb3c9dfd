"""Writes events as JSON Lines; it stands alone because every output of a followed run has its file.

These are the run journal as it is, and MetricsLogged and Warned of the attempts.
"""

from __future__ import annotations

import sys

import msgspec
from halos_backend.events import AttemptEvent, AttemptFailed, PhaseChanged, Progressed, RunEvent

from halos_tui.tracking.run_tail import RunTail
from halos_tui.tracking.status import SeenStatus

LEFT_OUT = (PhaseChanged, Progressed, AttemptFailed)
"""These events are worthless once past; why an attempt failed is in StageFailed."""


class JsonLines:
    """Writes one object per line to standard output, each batch as soon as it is there."""

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder()

    def show(
        self,
        events: list[RunEvent | AttemptEvent],
        tail: RunTail,  # noqa: ARG002
        *,
        status: SeenStatus,  # noqa: ARG002
    ) -> None:
        for event in events:
            if not isinstance(event, LEFT_OUT):
                sys.stdout.write(self._encoder.encode(event).decode() + "\n")
        sys.stdout.flush()

    def hide(self) -> None:
        """Does nothing: there is nothing to put away before a question."""

    def close(self) -> None:
        sys.stdout.flush()
