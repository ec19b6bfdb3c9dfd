"""Owns what a stage says has happened, in an attempt's journal; it stands alone because only rank 0
writes these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from halos_backend.events.base import Cause, StageEvent


class PhaseChanged(StageEvent, frozen=True, kw_only=True):
    """Says what the stage does now: `loading policy`, `generating`, `saving checkpoint`, ..."""

    phase: str


class Progressed(StageEvent, frozen=True, kw_only=True):
    """Says how far the stage is, in `unit` (completions, steps, ...)."""

    done: int
    total: int
    unit: str


class MetricsLogged(StageEvent, frozen=True, kw_only=True):
    """Holds metrics of one optimizer step (`step` counts within the round, from 1)."""

    step: int
    metrics: dict[str, float]
    non_finite: list[str] = []


class Warned(StageEvent, frozen=True, kw_only=True):
    """Tells something that a person should know and that does not stop the stage."""

    text: str


class AttemptFailed(StageEvent, frozen=True, kw_only=True):
    """Is the stage's own last word: why it cannot go on."""

    reason: str
    cause: Cause = "crashed"


AttemptEvent = PhaseChanged | Progressed | MetricsLogged | Warned | AttemptFailed

attempt_event_decoder = msgspec.json.Decoder(AttemptEvent)


def split_finite(metrics: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
    """Returns the finite metrics, and the names of the others."""
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    return finite, [name for name in metrics if name not in finite]
