"""All metrics of one run: its figures by round, and by step of the rounds that are looked at."""

from __future__ import annotations

from collections.abc import Iterable

from halos_backend.store.run_dir import RunDir

from halos_tui.metrics.round_figures import RoundFigures
from halos_tui.metrics.view import Line
from halos_tui.run.attempt_tail import AttemptTail
from halos_tui.run.state_tail import StateTail


class RunMetrics:
    """Events of attempts are read only of the rounds in `show`, in bounded memory."""

    def __init__(self, run_dir: RunDir) -> None:
        self.run_dir = run_dir
        self.figures = RoundFigures()
        self._tail = StateTail(run_dir)
        self._attempts: dict[tuple[int, int], AttemptTail] = {}

    @property
    def num_rounds(self) -> int:
        return len(self.figures.train_attempts)

    @property
    def newest_trained(self) -> int:
        """The last round whose training has begun; 0 where none has."""
        attempts = self.figures.train_attempts
        return next((n for n in range(len(attempts), 0, -1) if attempts[n - 1] is not None), 0)

    def read(self) -> bool:
        """Whether the rounds are others now. Raises what `StateTail.read` does."""
        self._tail.read()
        is_new = self.figures.update(self._tail.state)
        self._tail.forget_old_rounds()
        return is_new

    def show(self, rounds: Iterable[int]) -> bool:
        """Read the training of these rounds, forget that of others; whether anything is new."""
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
        """Of the rounds that are shown, in the order in which they are logged."""
        names = (name for tail in self._attempts.values() for name in tail.series)
        return [*dict.fromkeys(names)]

    def step_lines(self, name: str) -> list[Line]:
        """One of each round that is shown and has the metric."""
        return [
            self._line(round, attempt, tail, name)
            for (round, attempt), tail in self._attempts.items()
            if name in tail.series
        ]

    def _line(self, round: int, attempt: int, tail: AttemptTail, name: str) -> Line:
        series = tail.series[name]
        xs, ys, lows, highs = series.columns()
        if series.is_joined:
            events = self.run_dir.attempt(round, "train", attempt).events
            return Line(self.run_dir.name, round, xs, ys, lows, highs, events)
        return Line(self.run_dir.name, round, xs, ys)

    def _tail_of(self, round: int, attempt: int) -> AttemptTail:
        return AttemptTail(self.run_dir.attempt(round, "train", attempt))
