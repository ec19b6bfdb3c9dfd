"""Tells how far one attempt is: the fold of its own events, for the stage that runs now."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from halos_backend.events import (
    AttemptEvent,
    AttemptFailed,
    Cause,
    MetricsLogged,
    PhaseChanged,
    Progressed,
    Warned,
)


class LiveStage(msgspec.Struct, frozen=True, kw_only=True):
    """Holds phase, progress with its rate, the newest step's metrics, warnings.

    `first_t` and `first_done` are of the first progress in this unit, so that a resumed attempt's
    head start is no part of the rate.
    """

    phase: str = "starting"
    done: int = 0
    total: int = 0
    unit: str = ""
    first_t: float = 0.0
    first_done: int = 0
    progress_t: float = 0.0
    step: int = 0
    metrics: dict[str, float] = {}
    warnings: tuple[str, ...] = ()
    failure: str | None = None
    cause: Cause = "crashed"

    @property
    def rate(self) -> float | None:
        """Returns the units per second since the first progress; None before there is one."""
        elapsed = self.progress_t - self.first_t
        return (self.done - self.first_done) / elapsed if elapsed > 0 else None

    @property
    def eta_s(self) -> float | None:
        """Returns the seconds left at that rate."""
        return (self.total - self.done) / self.rate if self.rate else None


def fold_attempt(events: Iterable[AttemptEvent], live: LiveStage | None = None) -> LiveStage:
    """Returns the attempt after `events`."""
    live = LiveStage() if live is None else live
    for event in events:
        live = _apply(live, event)
    return live


def _apply(live: LiveStage, event: AttemptEvent) -> LiveStage:
    match event:
        case PhaseChanged(phase=phase):
            return replace(live, phase=phase, done=0, total=0, unit="")
        case Progressed():
            if event.unit != live.unit or event.total != live.total:
                live = replace(live, first_t=event.t, first_done=event.done)
            return replace(
                live, done=event.done, total=event.total, unit=event.unit, progress_t=event.t
            )
        case MetricsLogged():
            return replace(live, step=event.step, metrics=event.metrics)
        case Warned(text=text):
            return replace(live, warnings=(*live.warnings, text))
        case AttemptFailed(reason=reason):
            return replace(live, failure=reason, cause=event.cause)
