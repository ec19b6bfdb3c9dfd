"""What was changed in a run, and what became of each change by now. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from halos_backend.settings_json import is_at_or_below
from halos_backend.store.state import ENDED, RunState

from halos_tui.changes.entries import Entry
from halos_tui.formatting import date_time
from halos_tui.run.rounds import num_rounds


class History:
    """Grows with the journal."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def add(self, entries: Iterable[Entry]) -> None:
        """In the order in which they came about."""
        for entry in entries:
            self._entries.append(replace(entry, number=len(self._entries)))

    def entries(self, state: RunState) -> tuple[Entry, ...]:
        """As things stand now, newest first."""
        later: dict[int, list[Entry]] = {}
        found = []
        for entry in reversed(self._entries):
            if entry.verb in ("set", "extend") and entry.path:
                of_round = later.setdefault(entry.from_round, [])
                found.append(_as_of_now(entry, of_round, state))
                of_round.append(entry)
            else:
                found.append(entry)
        return tuple(found)


def fate_of(entry: Entry) -> str:
    """What became of it; empty where there is nothing to add."""
    match entry.fate:
        case "replaced":
            return f"replaced by the change of {date_time(entry.replaced_t or 0.0)}"
        case "waits":
            return f"waits for round {entry.from_round}"
        case "beyond":
            return f"waits for round {entry.from_round}: the run is to end before that"
        case "unused":
            return f"never held: the run ended before round {entry.from_round}"
        case "refused":
            return "refused: nothing was changed"
        case "holds" | "told":
            return ""


def _as_of_now(entry: Entry, later: list[Entry], state: RunState) -> Entry:
    """`later` are later changes that begin with the same round, the latest first."""
    over = [other for other in later if is_at_or_below(entry.path, other.path)]
    if over:
        return replace(entry, fate="replaced", replaced_t=over[-1].t)
    if entry.from_round <= state.num_rounds:
        return replace(entry, fate="holds")
    if state.status in ENDED:
        return replace(entry, fate="unused")
    planned = num_rounds(state)
    is_beyond = planned is not None and entry.from_round > planned
    return replace(entry, fate="beyond" if is_beyond else "waits")
