"""Changes of a run's settings, and what they make of them in a round."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from halos_backend.settings_json import apply_changes


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that hold from a round on: {dotted path: [before, now]}."""

    t: float
    from_round: int
    changes: dict[str, tuple[Any, Any]]
    by: str = ""


def settings_after(
    settings: dict[str, Any], changes: Iterable[Change], round: int
) -> dict[str, Any]:
    """The settings with all changes that hold for a round in place, in the order of their rounds.

    A later change of the same round goes over an earlier one.
    """
    due = [change for change in changes if change.from_round <= round]
    for change in sorted(due, key=lambda change: change.from_round):
        settings = apply_changes(settings, change.changes)
    return settings
