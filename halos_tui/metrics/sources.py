"""Reads all metrics of one run: its figures by round, and by step of the rounds that are shown.

The figures by round are every number in the summaries of its stages, as columns.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from halos_backend.store.round_state import RoundState
from halos_backend.store.run_dir import RunDir
from halos_backend.store.standard_error import reward_of
from halos_backend.store.state import RunState

from halos_tui.formatting import unit_of
from halos_tui.metrics.first_page import HELD_OUT
from halos_tui.metrics.view import MetricLine
from halos_tui.tracking.attempt_tail import AttemptTail
from halos_tui.tracking.rounds import loss_kind
from halos_tui.tracking.state_tail import NUM_WHOLE, StateTail

STDERRS = {
    "label.reward_mean": "label.reward_stderr",
    f"{HELD_OUT}label.reward_mean": f"{HELD_OUT}label.reward_stderr",
    "train.kl_initial": "train.kl_initial_stderr",
}
"""Around a line these are drawn: so much below and above."""
MOST_FIGURES = 256


class RunMetrics:
    """Reads the events of attempts only of the rounds in `show`, in bounded memory."""

    def __init__(self, run_dir: RunDir) -> None:
        self.run_dir = run_dir
        self.figures = RoundFigures()
        self._tail = StateTail(run_dir)
        self._attempts: dict[tuple[int, int], AttemptTail] = {}

    @property
    def loss(self) -> str:
        """Returns that of the newest round."""
        return loss_kind(self._tail.state)

    @property
    def num_rounds(self) -> int:
        return len(self.figures.train_attempts)

    @property
    def newest_trained(self) -> int:
        """Returns the last round whose training has begun; 0 where none has."""
        attempts = self.figures.train_attempts
        return next((n for n in range(len(attempts), 0, -1) if attempts[n - 1] is not None), 0)

    def read(self) -> bool:
        """Says whether the rounds changed. Raises what `StateTail.read` does."""
        self._tail.read()
        is_new = self.figures.update(self._tail.state)
        self._tail.forget_old_rounds()
        return is_new

    def show(self, rounds: Iterable[int]) -> bool:
        """Reads the training of these rounds, forgets that of others; says whether anything is
        new.
        """
        attempts = self.figures.train_attempts
        wanted = [
            (round, attempt)
            for round in rounds
            if 1 <= round <= len(attempts) and (attempt := attempts[round - 1]) is not None
        ]
        is_new = set(wanted) != set(self._attempts)
        self._attempts = {key: self._attempts.get(key) or self._tail_of(*key) for key in wanted}
        for tail in self._attempts.values():
            is_new |= tail.read()
        return is_new

    @property
    def step_names(self) -> list[str]:
        """Returns metrics of the rounds that are shown, in the order in which they are logged."""
        names = (name for tail in self._attempts.values() for name in tail.series)
        return [*dict.fromkeys(names)]

    def step_lines(self, name: str) -> list[MetricLine]:
        """Returns one line for each round that is shown and has the metric."""
        return [
            self._line(round, attempt, tail, name)
            for (round, attempt), tail in self._attempts.items()
            if name in tail.series
        ]

    def _line(self, round: int, attempt: int, tail: AttemptTail, name: str) -> MetricLine:
        series, unit = tail.series[name], unit_of(name)
        xs, ys, lows, highs = series.columns()
        if series.is_joined:
            events = self.run_dir.attempt(round, "train", attempt).events
            return MetricLine(self.run_dir.name, round, xs, ys, lows, highs, events, unit)
        return MetricLine(self.run_dir.name, round, xs, ys, unit=unit)

    def _tail_of(self, round: int, attempt: int) -> AttemptTail:
        return AttemptTail(self.run_dir.attempt(round, "train", attempt))


class RoundFigures:
    """Reads a state only where its rounds are new or changed.

    All but its last `NUM_WHOLE` rounds may be forgotten after that.
    """

    def __init__(self) -> None:
        self._columns: dict[str, array[float]] = {}
        self._newest: tuple[RoundState, ...] = ()
        self._has_scores = False
        """It says whether a reward is anything but 0 and 1."""
        self.train_attempts: list[int | None] = []
        """It holds the newest attempt of each round."""

    @property
    def names(self) -> list[str]:
        """Returns names in the order in which the stages say them; errors are in no chart alone."""
        return [name for name in self._columns if name not in STDERRS.values()]

    def update(self, state: RunState) -> bool:
        """Takes in a state; says whether anything is new."""
        first = self._first_changed(state.rounds)
        if first is None:
            return False
        del self.train_attempts[first:]
        for column in self._columns.values():
            del column[first:]
        for round in state.rounds[first:]:
            self._take(round)
        self._newest = state.rounds[-NUM_WHOLE:]
        return True

    def line(self, run: str, name: str) -> MetricLine | None:
        """Returns the line of a figure; None where no round has it."""
        ys = self._columns.get(name)
        if ys is None or not any(map(math.isfinite, ys)):
            return None
        xs = array("d", range(1, len(ys) + 1))
        is_share = name.endswith("label.reward_mean") and not self._has_scores
        unit = "share" if is_share else unit_of(name)
        stderrs = self._columns.get(STDERRS.get(name, ""))
        if stderrs is None:
            return MetricLine(run, None, xs, ys[:], unit=unit)
        lows = array("d", (y - s for y, s in zip(ys, stderrs, strict=True)))
        highs = array("d", (y + s for y, s in zip(ys, stderrs, strict=True)))
        return MetricLine(run, None, xs, ys[:], lows, highs, unit=unit)

    def _first_changed(self, now: tuple[RoundState, ...]) -> int | None:
        start = len(self.train_attempts) - len(self._newest)
        for index, before in enumerate(self._newest, start):
            if index >= len(now) or now[index] is not before:
                return index
        return len(self.train_attempts) if len(now) > len(self.train_attempts) else None

    def _take(self, round: RoundState) -> None:
        done = len(self.train_attempts)
        for name, value in _figures_of(round):
            column = self._columns.get(name)
            if column is None:
                if len(self._columns) >= MOST_FIGURES:
                    continue
                column = self._columns[name] = array("d", [math.nan] * done)
            if len(column) == done:
                column.append(value)
        for column in self._columns.values():
            if len(column) == done:
                column.append(math.nan)
        reward = reward_of(round)
        self._has_scores |= reward is not None and not reward.is_share
        train = round.stages.get("train")
        self.train_attempts.append(None if train is None else train.attempt)


def _figures_of(round: RoundState) -> Iterator[tuple[str, float]]:
    """Yields figures of finished stages: `label.reward_mean`."""
    before = HELD_OUT if round.closing == "held_out" else ""
    for name, stage in round.stages.items():
        if stage.status == "finished":
            if stage.elapsed_s is not None:
                yield f"{before}{name}.elapsed_s", stage.elapsed_s
            yield from _numbers(f"{before}{name}", stage.figures)
    if (reward := reward_of(round)) is not None and reward.stderr is not None:
        yield f"{before}label.reward_stderr", reward.stderr  # an older run has none in its summary


def _numbers(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yields numbers, also of tables inside; what an external command says may be anything."""
    for key, value in table.items():
        name = f"{prefix}.{key}"
        if isinstance(value, Mapping):
            yield from _numbers(name, value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            try:
                yield name, float(value)
            except OverflowError:  # more digits than a float takes
                continue
