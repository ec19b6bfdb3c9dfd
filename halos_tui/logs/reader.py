"""Reads the logs of a run for a screen: which there are, and the rows around a place in one.

A run has the supervisor's log, those of programs that stay, and one of every attempt. `read`
belongs into a feed's thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from halos_backend.events import STAGES, Stage
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState

from halos_tui.logs.file import LogFile, LogStatus
from halos_tui.logs.rows import END, LogWindow, Place, RowStyle, column_of_hit, window_at
from halos_tui.tracking.rounds import place
from halos_tui.tracking.state_tail import StateTail


@dataclass(frozen=True)
class LogSource:
    """`attempt` is (round, stage, number), None for a log of the run itself."""

    title: str
    path: Path
    attempt: tuple[int, Stage, int] | None = None
    is_running: bool = False
    started_t: float = 0.0


def log_sources(run_dir: RunDir, state: RunState) -> tuple[LogSource, ...]:
    """Returns the logs of the run first, then those of the attempts from the first round on."""
    return (*_of_run(run_dir), *_of_attempts(run_dir, state))


def newest_source(
    sources: Sequence[LogSource], *, round: int | None = None, stage: Stage | None = None
) -> LogSource | None:
    """Returns the log of the attempt that runs, or began last, of a round or stage if one is named.

    Returns None where no such attempt has begun; where none is named, the run's own first log.
    """
    fitting = [
        source
        for source in sources
        if source.attempt is not None
        and round in (None, source.attempt[0])
        and stage in (None, source.attempt[1])
    ]
    if fitting:
        return max(fitting, key=lambda source: (source.is_running, source.started_t))
    return sources[0] if sources and round is None and stage is None else None


def _of_run(run_dir: RunDir) -> Iterator[LogSource]:
    yield LogSource("supervisor", run_dir.supervisor_log)
    if run_dir.prepare_log.exists():
        yield LogSource("preparation", run_dir.prepare_log)
    for stage in STAGES:
        log = run_dir.worker(stage).log
        if log.exists():
            yield LogSource(f"{stage} between rounds", log)


def _of_attempts(run_dir: RunDir, state: RunState) -> Iterator[LogSource]:
    for round in state.rounds:
        for stage in round.stages.values():
            for number in range(1, stage.attempt + 1):
                is_newest = number == stage.attempt
                again = f", attempt {number} of {stage.attempt}" if stage.attempt > 1 else ""
                yield LogSource(
                    title=f"{stage.stage} of {place(state, round.round)}{again}",
                    path=run_dir.attempt(round.round, stage.stage, number).log,
                    attempt=(round.round, stage.stage, number),
                    is_running=is_newest and stage.status == "running",
                    started_t=stage.started_t if is_newest else 0.0,
                )


@dataclass(frozen=True)
class LogQuery:
    """Says what to show. Without `path` it is the newest log that fits `round` and `stage`.

    `jump` tells one jump from another; a jump to a hit moves sideways until that is in sight.
    """

    round: int | None = None
    stage: Stage | None = None
    path: Path | None = None
    place: Place = END
    jump: int = 0
    to_hit: bool = False
    follows: bool = True
    height: int = 24
    style: RowStyle = field(default_factory=RowStyle)


@dataclass(frozen=True)
class LogView:
    """`source` and its `file` are None while what was asked for has not begun.

    `left` is the first column shown, another than the query's where a hit was to be in sight.
    """

    query: LogQuery
    sources: tuple[LogSource, ...] = ()
    source: LogSource | None = None
    file: LogFile | None = None
    status: LogStatus = field(default_factory=LogStatus)
    window: LogWindow = field(default_factory=LogWindow)
    left: int = 0
    num_new_bytes: int = 0


class LogReader:
    """Reads logs for their screen. `ask` may be called from any thread."""

    def __init__(self, run_dir: RunDir, query: LogQuery) -> None:
        self.run_dir = run_dir
        self._file: LogFile | None = None
        self._tail = StateTail(run_dir)
        self._query = query
        self._view = LogView(query)
        self._seen_bytes = 0
        self._sources: tuple[LogSource, ...] = ()

    def ask(self, query: LogQuery) -> None:
        self._query = query

    def read(self) -> LogView | None:
        """Returns the view, or None where nothing is new. Raises what `StateTail.read` does."""
        query = self._query
        if self._tail.read() or not self._sources:
            self._sources = log_sources(self.run_dir, self._tail.state)
        source = self._source(query)
        file = self._opened(source)
        before = self._view
        view = replace(before, query=query, sources=self._sources, source=source, file=file)
        if file is None:
            view = replace(view, status=LogStatus(), window=LogWindow(), left=query.style.left)
        else:
            view = self._looked(view, file, file.refresh())
        if view == before:
            return None
        self._view = view
        return view

    def _source(self, query: LogQuery) -> LogSource | None:
        for source in self._sources:
            if source.path == query.path:
                return source
        return newest_source(self._sources, round=query.round, stage=query.stage)

    def _opened(self, source: LogSource | None) -> LogFile | None:
        path = None if source is None else source.path
        if self._file is None or self._file.path != path:
            if self._file is not None:
                self._file.close()
            self._file = None if path is None else LogFile(path)
            self._view = replace(self._view, window=LogWindow(), status=LogStatus())
        return self._file

    def _looked(self, view: LogView, file: LogFile, status: LogStatus) -> LogView:
        """Reads rows again where another place is wanted, or where there is more to show."""
        query, before = view.query, self._view
        is_new_file = status.generation != before.status.generation or view.source != before.source
        has_grown = status.num_bytes != before.status.num_bytes
        view = replace(view, status=status)
        if query.follows or is_new_file:
            self._seen_bytes = status.num_bytes
        view = replace(view, num_new_bytes=max(0, status.num_bytes - self._seen_bytes))
        is_wanted = query != before.query or is_new_file
        if not (is_wanted or (has_grown and (query.follows or before.window.is_last))):
            return view
        place = END if query.follows or is_new_file else query.place
        style = query.style
        if query.to_hit and query.jump != before.query.jump:
            style = replace(style, left=self._left(file, query))
        return replace(view, window=window_at(file, place, style, query.height), left=style.left)

    def _left(self, file: LogFile, query: LogQuery) -> int:
        """Returns the first column to show so that the hit is in sight."""
        style, lines = query.style, file.lines_from(query.place[0], 1)
        if style.wraps or style.term is None or not lines:
            return style.left
        column = column_of_hit(lines[0], style.term)
        if column is None or style.left <= column < style.left + style.width - 1:
            return style.left
        return max(0, column - style.width // 3)
