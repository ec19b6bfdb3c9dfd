"""All logs of a run: the supervisor's, those of programs that stay, and of every attempt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from halos_backend.events import STAGES, Stage
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState

from halos_tui.run.rounds import place


@dataclass(frozen=True)
class LogSource:
    """`attempt` is (round, stage, number), None for a log of the run itself."""

    title: str
    path: Path
    attempt: tuple[int, Stage, int] | None = None
    is_running: bool = False
    started_t: float = 0.0


def log_sources(run_dir: RunDir, state: RunState) -> tuple[LogSource, ...]:
    """Those of the run first, then the attempts from the first round on."""
    return (*_of_run(run_dir), *_of_attempts(run_dir, state))


def newest_source(
    sources: Sequence[LogSource], *, round: int | None = None, stage: Stage | None = None
) -> LogSource | None:
    """The attempt that runs, or began last, of a round or stage if one is named; else None.

    Where no attempt has begun and none is named, the run's own first log.
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
