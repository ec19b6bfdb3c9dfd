"""Compares two rounds of a run: which settings differ, and what came of them. It is pure.

Round 0 stands for what the run began with: its settings as created, or the round that it was forked
from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from halos_backend.settings_json import Changes, diff, is_at_or_below
from halos_backend.store.round_state import RoundState
from halos_backend.store.state import RunState

from halos_tui.changes.entries import Entry
from halos_tui.changes.results import KL, Result, compare_results

START = 0
"""This is the number of what a run began with."""

Rounds = tuple[int, int]
"""The older round comes first, then the newer one."""


@dataclass(frozen=True)
class Origin:
    """This is the round that a run was forked from; None where it can no longer be read."""

    said: str
    round: RoundState | None


@dataclass(frozen=True)
class Comparison:
    """`notes` say what a person should know before they conclude anything from the results."""

    older: int
    newer: int
    settings: Changes
    results: tuple[Result, ...]
    notes: tuple[str, ...]
    start: str = ""

    @property
    def names(self) -> tuple[str, str]:
        """Returns short names of both rounds, which head the columns."""
        return name_of(self.older, self.start), name_of(self.newer, self.start)


def name_of(round: int, start: str) -> str:
    """Returns a short name of a round. `start` says where a fork comes from."""
    if round != START:
        return f"round {round}"
    return "origin" if start else "created"


def changes_of_fork(origin: Origin, state: RunState) -> Changes:
    """Returns how a fork's settings differ from its origin's; the policy, a copy, is left out."""
    before = state.settings if origin.round is None else origin.round.settings
    return _but_policy(diff(before, state.settings))


def compare(
    state: RunState,
    rounds: Rounds,
    origin: Origin | None = None,
    *,
    paired_stderr: float | None = None,
) -> Comparison:
    """Compares rounds that may be still to come: their settings are known as far as they can be.

    `paired_stderr` is that of the reward's change where both have prompts in common.
    """
    older, newer = rounds
    settings = diff(_settings(state, older, origin), _settings(state, newer, origin))
    results = compare_results(
        _round(state, older, origin), _round(state, newer, origin), paired_stderr=paired_stderr
    )
    if _is_across_runs(rounds, origin):
        settings = _but_policy(settings)
        results = tuple(result for result in results if result.measure != KL)
    return Comparison(
        older=older,
        newer=newer,
        settings=settings,
        results=results,
        notes=_notes(state, rounds, origin),
        start="" if origin is None else origin.said,
    )


def last_round(state: RunState) -> int:
    """Returns the last round that can be compared: one that has begun, or that changes wait for."""
    return max((state.num_rounds, *(change.from_round for change in state.changes)))


def usual_rounds(state: RunState, entry: Entry | None) -> Rounds | None:
    """Returns the rounds before and after a change; without one the two newest finished rounds.

    Returns None while there is no round.
    """
    if entry is not None:
        return entry.rounds
    begun = state.rounds[: state.num_rounds]
    finished = [round.round for round in begun[-2:] if round.finished_t is not None]
    newest = finished[-1] if finished else state.num_rounds
    return None if newest == START else (newest - 1, newest)


def moved(rounds: Rounds, *, older: int = 0, newer: int = 0, last: int) -> Rounds:
    """Moves both rounds by so many, in their order and within the rounds that exist."""
    before, now = rounds
    now = max(before + 1, min(now + newer, max(last, before + 1)))
    return max(START, min(before + older, now - 1)), now


def _settings(state: RunState, round: int, origin: Origin | None) -> dict[str, Any]:
    if round != START:
        return state.settings_of(round)
    return state.settings if origin is None or origin.round is None else origin.round.settings


def _round(state: RunState, round: int, origin: Origin | None) -> RoundState | None:
    if round == START:
        return None if origin is None else origin.round
    return state.rounds[round - 1] if round <= state.num_rounds else None


def _too_early(state: RunState, newer: int) -> str:
    """Says why a round's results cannot be compared yet: its policy is what the round before
    trained.
    """
    if not 1 < newer <= state.num_rounds:
        return ""
    changed = diff(state.settings_of(newer - 1), state.settings_of(newer))
    if not any(is_at_or_below(path, "train") for path in changed):
        return ""
    return (
        f"round {newer} samples from the policy of round {newer - 1}: what is changed in train"
        f" shows in its reward from round {newer + 1} on"
    )


def _is_across_runs(rounds: Rounds, origin: Origin | None) -> bool:
    return rounds[0] == START and origin is not None and origin.round is not None


def _but_policy(changes: Changes) -> Changes:
    return {path: change for path, change in changes.items() if path != "policy.path"}


def _notes(state: RunState, rounds: Rounds, origin: Origin | None) -> tuple[str, ...]:
    """Says what makes a comparison mean less than it seems to."""
    older, newer = rounds
    found = [_note(state, older), _note(state, newer), _too_early(state, newer)]
    if _is_across_runs(rounds, origin):
        found.append("KL is left out: that of each run is to its own first policy")
    return tuple(filter(None, found))


def _note(state: RunState, number: int) -> str:
    """Says why the figures of a round are missing, or not what they usually are."""
    if number == START:
        return ""
    if number > state.num_rounds:
        return f"round {number} has not begun: its settings are as far as they are known now"
    round = state.rounds[number - 1]
    if round.untrained:
        return f"round {number} was not trained: {round.untrained}"
    return "" if round.finished_t is not None else f"round {number} is not finished yet"
