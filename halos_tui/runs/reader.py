"""Reads the list of runs for the runs screen, in the feed's thread: again only what has changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from stat import S_ISREG
from typing import Literal

from halos_backend.errors import HalosError
from halos_backend.store.own_words import NO_WORDS, OwnWords, words_or_problem
from halos_backend.store.request_rules import Standing
from halos_backend.store.run_dir import RunDir
from halos_backend.store.run_summary import RunSummary, summarize_run
from halos_backend.store.standard_error import Reward, RewardChange
from halos_backend.store.state import AT_WORK

from halos_tui.runs.filter import FIELDS, setting_at
from halos_tui.tracking.status import SeenStatus, supervision_of

ListedStatus = SeenStatus | Literal["unreadable"]


@dataclass(frozen=True)
class RunRow:
    """This is one run of the list; `rewards` are the mean rewards of its rounds, oldest first.

    `problem` says why it stopped, what is in its way, or why it cannot be read; `words_problem` why
    a person's own words cannot be. `standing` says what can be asked of it.
    """

    run_dir: RunDir
    status: ListedStatus
    problem: str = ""
    round: int = 0
    num_rounds: int | None = None
    stage: str = ""
    loss: str = ""
    rewards: tuple[float, ...] = ()
    last_reward: Reward | None = None
    reward_change: RewardChange | None = None
    created_t: float = 0.0
    words: OwnWords = NO_WORDS
    words_problem: str = ""
    standing: Standing | None = None
    summary: RunSummary | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.run_dir.name

    @property
    def reward(self) -> float | None:
        return None if self.last_reward is None else self.last_reward.mean

    @property
    def change(self) -> float | None:
        """Returns the reward's change, from the first round that has one to the last."""
        return None if self.reward_change is None else self.reward_change.value

    def value_of(self, field: str) -> object:
        """Returns what a filter compares: one of FIELDS, or a setting by its path; None for what is
        not. Any of several values may fit.
        """
        match field:
            case "name":
                return (self.name, self.words.title)
            case "tag":
                return self.words.tags
            case "title" | "note":
                return getattr(self.words, field) or None
            case _ if field in FIELDS:
                return getattr(self, field)
            case _:
                return None if self.summary is None else setting_at(self.summary.settings, field)


Look = tuple[int, int, int]
"""It is time of change, size and inode of a file."""


WordsLook = tuple[int, Look | None]
"""It is when a file came into the run's folder or went, and how a person's own words look.

Where there are no words their file is not looked at: a look at what is not there takes long.
"""


@dataclass(frozen=True)
class _Known:
    """Holds what was read of a run when its files looked like that; `row` has the journal's
    status.
    """

    journal: Look
    own_words: WordsLook
    row: RunRow
    has_words: bool


class RunsReader:
    """Reads the runs under `root`, newest journal first; `read` returns None where nothing is
    new. `in_keys` words the commands in what is told of a run.
    """

    def __init__(self, root: Path, in_keys: Callable[[str], str] = str) -> None:
        self._root = root
        self._journal, self._own_words = RunDir(root).events.name, RunDir(root).own_words.name
        self._in_keys = in_keys
        self._known: dict[str, _Known] = {}
        self._last: tuple[RunRow, ...] | None = None

    def read(self) -> tuple[RunRow, ...] | None:
        """Returns the rows, or None. Raises OSError where there is a root and it cannot be read."""
        last, self._last = self._last, None  # after a failure every row is new
        known = {
            name: self._known_of(name, journal)
            for name in _names_in(self._root)
            if (journal := _look_at(f"{self._root}/{name}/{self._journal}"))
        }
        self._known = known
        newest = sorted(known.values(), key=lambda run: run.journal, reverse=True)
        rows = tuple(_as_seen(run.row) for run in newest)
        self._last = rows
        return None if rows == last else rows

    def _known_of(self, name: str, journal: Look) -> _Known:
        known = self._known.get(name)
        look = self._look_at_words(name, known)
        if known is not None and known.journal == journal and known.own_words == look:
            return known
        run_dir = RunDir(self._root / name)
        if known is None or known.journal != journal:
            row = _read(run_dir, journal_bytes=journal[1])
            row = replace(row, problem=self._in_keys(row.problem))
        else:
            row = known.row
        if known is not None and known.own_words == look:
            words, problem = known.row.words, known.row.words_problem
        else:
            words, problem = words_or_problem(run_dir)
        row = replace(row, words=words, words_problem=problem)
        return _Known(journal, look, row, has_words=bool(problem) or words is not NO_WORDS)

    def _look_at_words(self, name: str, known: _Known | None) -> WordsLook:
        folder = f"{self._root}/{name}"
        try:
            changed_ns = os.stat(folder).st_mtime_ns  # noqa: PTH116
        except OSError:
            changed_ns = 0
        if known is None or not known.has_words:
            return changed_ns, None
        return changed_ns, _look_at(f"{folder}/{self._own_words}")


def _names_in(root: Path) -> list[str]:
    try:
        names = os.listdir(root)  # noqa: PTH208 - a thousand Path objects twice a second cost 5 %
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name for name in names if not name.startswith(".")]


def _look_at(path: str) -> Look | None:
    try:
        stat = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    is_file = S_ISREG(stat.st_mode)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino) if is_file else None


def _as_seen(row: RunRow) -> RunRow:
    """Adds to a row what only its supervisor can tell: that nobody does the work."""
    if row.summary is None or row.summary.status not in AT_WORK:
        return row
    status = supervision_of(row.run_dir).status_of(row.summary)
    return row if status == row.status else replace(row, status=status)


def _read(run_dir: RunDir, *, journal_bytes: int) -> RunRow:
    try:
        found = summarize_run(run_dir, journal_bytes=journal_bytes)
    except (HalosError, OSError) as error:
        return RunRow(run_dir, "unreadable", in_words(run_dir, error))
    reason = found.obstacle if found.status in AT_WORK else found.reason
    return RunRow(
        run_dir,
        found.status,
        problem=reason or "",
        round=found.round,
        num_rounds=found.num_rounds,
        stage=found.stage,
        loss=found.loss,
        rewards=found.rewards,
        last_reward=found.reward,
        reward_change=found.reward_change,
        created_t=found.created_t,
        standing=found.standing,
        summary=found,
    )


def in_words(run_dir: RunDir, error: HalosError | OSError) -> str:
    """Says why a run cannot be read, without the path that its name says already."""
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error).replace(f"{run_dir.path}/", "")
