"""Reads the list of runs for the runs screen, in the feed's thread: again only what has changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from halos_backend.errors import HalosError
from halos_backend.store.registry import check_readable, list_runs, load_state
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import AT_WORK, RunState

from halos_tui import rounds
from halos_tui.observed import SeenStatus, supervision_of
from halos_tui.run_filter import flat_settings

ListedStatus = SeenStatus | Literal["unreadable"]


@dataclass(frozen=True)
class RunRow:
    """One run of the list. `rewards` are the mean rewards of its rounds, oldest first."""

    run_dir: RunDir
    status: ListedStatus
    problem: str = ""
    round: int = 0
    num_rounds: int | None = None
    stage: str = ""
    loss: str = ""
    rewards: tuple[float, ...] = ()
    created_t: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.run_dir.name

    @property
    def reward(self) -> float | None:
        return self.rewards[-1] if self.rewards else None

    @property
    def change(self) -> float | None:
        """Of the reward, from the first round that has one to the last."""
        return self.rewards[-1] - self.rewards[0] if len(self.rewards) > 1 else None

    @cached_property
    def fields(self) -> dict[str, object]:
        """What a filter looks at."""
        own = {
            "name": self.name,
            "status": self.status,
            "loss": self.loss,
            "stage": self.stage,
            "round": self.round,
            "reward": self.reward,
        }
        return {**flat_settings(self.settings), **own}


@dataclass(frozen=True)
class _Known:
    """What was read of a run when its files looked like that."""

    look: tuple[int, int, int]
    state: RunState | None
    problem: str


class RunsReader:
    """The runs under `root`, newest first; `read` returns None where nothing is new."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[Path, _Known] = {}
        self._last: tuple[RunRow, ...] | None = None

    def read(self) -> tuple[RunRow, ...] | None:
        found = list_runs(self._root)
        rows = tuple(self._row(run_dir) for run_dir in found)
        self._known = {run.path: self._known[run.path] for run in found}
        if rows == self._last:
            return None
        self._last = rows
        return rows

    def _row(self, run_dir: RunDir) -> RunRow:
        known = self._look_at(run_dir)
        state = known.state
        if state is None:
            return RunRow(run_dir, "unreadable", known.problem)
        is_at_work = state.status in AT_WORK
        current = state.rounds[-1] if state.rounds else None
        rewards = tuple(
            mean for round in state.rounds if (mean := rounds.reward_mean(round)) is not None
        )
        return RunRow(
            run_dir,
            supervision_of(run_dir).status_of(state) if is_at_work else state.status,
            problem=(state.obstacle or "") if is_at_work else (state.reason or ""),
            round=len(state.rounds),
            num_rounds=rounds.num_rounds(state),
            stage=current.active.stage if current is not None and current.active else "",
            loss=rounds.loss_kind(state),
            rewards=rewards,
            created_t=state.created_t,
            settings=state.settings_of(max(1, len(state.rounds))),
        )

    def _look_at(self, run_dir: RunDir) -> _Known:
        try:
            stat = run_dir.events.stat()
            look = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError as error:
            look, problem = (0, 0, 0), f"{error.filename}: {error.strerror}"
            self._known[run_dir.path] = _Known(look, None, problem)
            return self._known[run_dir.path]
        known = self._known.get(run_dir.path)
        if known is None or known.look != look:
            known = _read(run_dir, look)
            self._known[run_dir.path] = known
        return known


def _read(run_dir: RunDir, look: tuple[int, int, int]) -> _Known:
    try:
        return _Known(look, check_readable(load_state(run_dir), run_dir), "")
    except HalosError as error:
        return _Known(look, None, str(error))
    except OSError as error:
        return _Known(look, None, f"{error.filename}: {error.strerror}")
