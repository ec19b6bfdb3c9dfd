"""Reads more of the run at the list's cursor, or compares several, in the feed's thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from halos_backend import clock
from halos_backend.errors import HalosError
from halos_backend.store.disk_use import DiskMeter
from halos_backend.store.own_words import NO_WORDS, OwnWords
from halos_backend.store.run_dir import RunDir

from halos_tui.run.view import HeaderView, RunView
from halos_tui.runs.comparison import Comparison, compare_runs
from halos_tui.runs.reader import RunRow, in_words

DISK_EVERY_S = 60.0
DISK_STEP_S = 0.05
"""A read counts files for so long, and the next one goes on: the cursor may move at any time."""


@dataclass(frozen=True)
class Preview:
    """Holds what stands beside the list about one run; `disk_bytes` is None until all of it is
    counted.
    """

    run_dir: RunDir
    run: RunView
    disk_bytes: int | None = None
    words: OwnWords = NO_WORDS
    words_problem: str = ""


class PreviewReader:
    """Reads what was asked for last, and nothing of the runs that a moving cursor passed.

    `ask` may be called from another thread than `read`. `keys` are those of the actions by which a
    person can steer a run, for its hints; `in_keys` words commands. Of one run at a time anything
    is kept.
    """

    keys: Mapping[str, str] = MappingProxyType({})
    in_keys: Callable[[str], str] = staticmethod(str)

    def __init__(self) -> None:
        self._wanted: tuple[RunRow, ...] = ()
        self._compared: tuple[RunRow, ...] = ()
        self._followed: _Followed | None = None

    def ask(self, rows: tuple[RunRow, ...]) -> None:
        """Asks for one run, or for several to be compared."""
        self._wanted = rows

    def read(self) -> Preview | Comparison | None:
        """Returns None where there is nothing new."""
        wanted = self._wanted
        if len(wanted) > 1:
            return self._compare(wanted)
        self._compared = ()
        run_dir = wanted[0].run_dir if wanted else None
        if run_dir is None:
            self._followed = None
        elif self._followed is None or self._followed.run_dir != run_dir:
            self._followed = _Followed(run_dir, self.keys, self.in_keys)
        return None if self._followed is None else self._followed.read()

    def _compare(self, wanted: tuple[RunRow, ...]) -> Comparison | None:
        self._followed = None
        before, self._compared = self._compared, wanted
        return None if wanted == before else compare_runs(wanted)


class _Followed:
    """Reads one run for as long as the cursor is on it."""

    def __init__(
        self, run_dir: RunDir, keys: Mapping[str, str], in_keys: Callable[[str], str]
    ) -> None:
        from halos_tui.run.reader import RunReader  # 0.1 s, for which the list does not wait

        self.run_dir = run_dir
        self._reader = RunReader(run_dir, is_brief=True)
        self._reader.keys, self._reader.in_keys = keys, in_keys
        self._disk = _DiskCount(run_dir)
        self._preview: Preview | None = None

    def read(self) -> Preview | None:
        before = self._preview
        if before is not None:
            self._disk.go_on()
        view = self._view()
        if view is None and before is not None:
            view = before.run
        if view is not None:
            self._preview = Preview(self.run_dir, view, self._disk.num_bytes)
        return None if self._preview == before else self._preview

    def _view(self) -> RunView | None:
        """Returns None where the run stands as before; says why where it cannot be read."""
        try:
            return self._reader.read()
        except (HalosError, OSError) as error:
            problem = in_words(self.run_dir, error)
            return RunView(HeaderView(self.run_dir.name, problem=problem))


class _DiskCount:
    """Counts the bytes of a run again and again, a little at a time."""

    def __init__(self, run_dir: RunDir) -> None:
        self._path = run_dir.path
        self._steps = DiskMeter().steps(self._path)
        self._found = 0
        self._due = 0.0
        self.num_bytes: int | None = None

    def go_on(self) -> None:
        began = clock.monotonic()
        if began < self._due:
            return
        for use in self._steps:
            self._found = use.total
            if clock.monotonic() > began + DISK_STEP_S:
                return
        self.num_bytes = self._found
        self._due = clock.monotonic() + DISK_EVERY_S
        self._steps = DiskMeter().steps(self._path)
