"""Follows the events of one attempt in bounded memory, however many there are and however fast."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

from halos_backend import clock
from halos_backend.errors import CorruptFileError
from halos_backend.events import (
    AttemptEvent,
    MetricsLogged,
    PhaseChanged,
    Progressed,
    Stage,
    Warned,
    attempt_event_decoder,
)
from halos_backend.records import BAD_JSON
from halos_backend.store.attempt_state import LiveStage, fold_attempt
from halos_backend.store.reader import attempt_journal
from halos_backend.store.run_dir import AttemptDir, RunDir
from halos_backend.store.state import RunState
from msgspec.structs import replace

from halos_tui.tracking.eta import Forecast, ProgressMark, Work, forecast
from halos_tui.tracking.series import BoundedSeries, ProgressMarks

Key = tuple[int, Stage]

BLOCK_BYTES = 1 << 20
MOST_AT_ONCE_S = 0.3
"""Reading stops after so long, and goes on the next time."""
SAMPLED_BYTES = 16 << 20
"""Of a longer journal only pieces at even distances are read at first."""
NUM_PIECES = 64
PIECE_BYTES = 32 << 10
SEARCHED_BYTES = 256 << 20
SEARCH_BLOCK_BYTES = 4 << 20
RARE = (b'{"type":"PhaseChanged"', b'{"type":"Warned"', b'{"type":"AttemptFailed"')
"""These are searched for in between: a picture without them is wrong."""
MOST_WARNINGS = 20
MOST_METRICS = 64
MOST_TOLD = 100
MILESTONES = 4
"""Of the steps so many are told, at even distances."""
STEPS = "steps"


class AttemptTail:
    """`live` and `series` are as of the last `read`; `num_steps` is 0 until it is known."""

    def __init__(self, attempt: AttemptDir) -> None:
        self.live = LiveStage()
        self.series: dict[str, BoundedSeries] = {}
        self.num_steps = 0
        self.problem: str | None = None
        self._path = attempt.events
        self._marks = ProgressMarks()
        self._told: deque[PhaseChanged | Warned | MetricsLogged] = deque(maxlen=MOST_TOLD)
        self._journal = attempt_journal(attempt.events, max_bytes=BLOCK_BYTES)
        self._has_read = False
        self._about = ("", 0)

    @property
    def marks(self) -> tuple[ProgressMark, ...]:
        """Returns the progress of the work at hand."""
        return self._marks.marks()

    def take_told(self) -> list[PhaseChanged | Warned | MetricsLogged]:
        """Returns what happened since the last time: phases, warnings, and a few of the steps."""
        told = [*self._told]
        self._told.clear()
        return told

    def read(self) -> bool:
        """Says whether there was anything new. What cannot be read becomes a `problem`, once for
        all.
        """
        if self.problem is not None:
            return False
        began = clock.monotonic()
        is_new = False
        try:
            if not self._has_read:
                is_new = self._read_samples()
            while events := self._journal.read():
                self._take(events)
                is_new = True
                if clock.monotonic() - began > MOST_AT_ONCE_S:
                    break
        except (CorruptFileError, OSError) as error:
            self.problem = str(error)
            is_new = True
        return is_new

    def _take(self, events: Sequence[AttemptEvent]) -> None:
        """Takes all events in their order."""
        for event in events:
            match event:
                case MetricsLogged():
                    self._add_metrics(event)
                    if _is_milestone(event.step, self.num_steps):
                        self._told.append(event)
                case Progressed():
                    self._add_progress(event)
                case PhaseChanged():
                    self._marks.clear()
                    self._told.append(event)
                case Warned():
                    self._told.append(event)
                case _:
                    pass
        self.live = fold_attempt(events, self.live)
        if len(self.live.warnings) > MOST_WARNINGS:
            self.live = replace(self.live, warnings=self.live.warnings[-MOST_WARNINGS:])

    def _add_metrics(self, event: MetricsLogged) -> None:
        for name, value in event.metrics.items():
            series = self.series.get(name)
            if series is None:
                if len(self.series) >= MOST_METRICS:
                    continue
                series = self.series[name] = BoundedSeries()
            series.add(event.step, value)
        for name in event.non_finite:
            if name in self.series:
                self.series[name].add(event.step, float("nan"))

    def _add_progress(self, event: Progressed) -> None:
        about = (event.unit, event.total)
        newest = self._marks.newest
        if about != self._about or (newest is not None and event.done < newest[1]):
            self._marks.clear()
            self._about = about
        self._marks.add(event.t, event.done)
        if event.unit == STEPS:
            self.num_steps = event.total

    def _read_samples(self) -> bool:
        """Reads pieces of a long journal at even distances, what is rare in all of it, and its
        end.
        """
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return False
        self._has_read = True
        if size <= SAMPLED_BYTES:
            return False
        end = self._line_start(size - PIECE_BYTES)
        self._take(self._rare_events(size, end))
        now, rare = self.live, self.take_told()
        for piece in range(NUM_PIECES):
            self._take(self._piece(end * piece // NUM_PIECES))
        self._marks.clear()
        self._told = deque(rare, maxlen=MOST_TOLD)
        self.live = replace(now, step=self.live.step, metrics=self.live.metrics)
        self._journal.offset = end
        return True

    def _piece(self, offset: int) -> list[AttemptEvent]:
        start = self._line_start(offset)
        return attempt_journal(self._path, offset=start, max_bytes=PIECE_BYTES).read()

    def _line_start(self, offset: int) -> int:
        """Returns the first line start at or after `offset`."""
        if offset == 0:
            return 0
        with self._path.open("rb") as file:
            file.seek(offset - 1)
            return offset - 1 + len(file.readline())

    def _rare_events(self, size: int, end: int) -> list[AttemptEvent]:
        with self._path.open("rb") as file:
            places = sorted(_places(file, max(0, size - SEARCHED_BYTES), end))
            return [_event_at(file, place) for place in places]


def _is_milestone(step: int, num_steps: int) -> bool:
    """Says whether another quarter of the steps is done."""
    if step < 1 or num_steps < 1:
        return False
    return step * MILESTONES // num_steps > (step - 1) * MILESTONES // num_steps


def work_at_hand(state: RunState, attempts: Mapping[Key, AttemptTail]) -> dict[Key, Work]:
    """Says how far the running stages are, by what was read of their attempts."""
    now = clock.now()
    return {
        (round, stage): Work(
            elapsed_s=max(0.0, now - state.rounds[round - 1].stages[stage].started_t),
            marks=tail.marks,
            total=tail.live.total,
        )
        for (round, stage), tail in attempts.items()
    }


def foresee(run_dir: RunDir, state: RunState) -> Forecast:
    """Estimates the time left, by one look at all that the running attempts have written."""
    attempts = {
        (round, stage): AttemptTail(
            run_dir.attempt(round, stage, state.rounds[round - 1].stages[stage].attempt)
        )
        for round, stage in state.active
    }
    for tail in attempts.values():
        while tail.read():
            pass
    return forecast(state, work_at_hand(state, attempts))


def _places(file: BinaryIO, start: int, end: int) -> Iterator[int]:
    """Finds where the last lines of each rare kind begin, between two offsets; reads from the
    end.
    """
    left = dict.fromkeys(RARE, MOST_WARNINGS)
    overlap = max(map(len, RARE)) + 1
    while end > start and any(left.values()):
        begin = max(start, end - SEARCH_BLOCK_BYTES)
        file.seek(begin)
        content = file.read(end - begin)
        for prefix in RARE:
            place = len(content)
            while left[prefix] and (place := content.rfind(b"\n" + prefix, 0, place)) >= 0:
                left[prefix] -= 1
                yield begin + place + 1
        if begin == 0:
            yield from (0 for prefix in RARE if content.startswith(prefix))
        end = begin if begin == start else begin + overlap


def _event_at(file: BinaryIO, place: int) -> AttemptEvent:
    """Reads the event at a place. Raises CorruptFileError."""
    file.seek(place)
    line = file.readline()
    try:
        event: AttemptEvent = attempt_event_decoder.decode(line)
    except BAD_JSON as error:
        raise CorruptFileError(f"{file.name}, at byte {place}: {error}") from error
    return event
