"""Measures what runs have on disk: the blocks they really take, each file once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Literal

import msgspec

from halos_backend.store.run_dir import AttemptDir, RunDir

BLOCK_BYTES = 512
"""Is the unit of `st_blocks`, whatever the file system's own is."""

Kind = Literal["checkpoints", "trainer_states", "rows", "logs", "other"]

_ATTEMPT = AttemptDir(Path())
_KIND_OF_FOLDER: dict[str, Kind] = {
    _ATTEMPT.checkpoint.name: "checkpoints",
    _ATTEMPT.trainer_state.name: "trainer_states",
    _ATTEMPT.partial_state.name: "trainer_states",
}
_RUN = RunDir(Path())
_KIND_OF_FILE: dict[str, Kind] = {
    **{
        path.name: "rows"
        for path in (
            _RUN.prompts,
            _ATTEMPT.completions,
            _ATTEMPT.early_groups,
            _ATTEMPT.canary,
            _ATTEMPT.rewards,
            _ATTEMPT.scores,
            _ATTEMPT.feedback,
        )
    },
    **{
        path.name: "logs"
        for path in (
            _RUN.events,
            _RUN.telemetry,
            _RUN.old_telemetry,
            _RUN.supervisor_log,
            _RUN.prepare_log,
            _ATTEMPT.log,
        )
    },
}


class DiskUse(msgspec.Struct, frozen=True, kw_only=True):
    """Holds bytes on disk. `rows` are prompts, samples, scores and feedback."""

    checkpoints: int = 0
    trainer_states: int = 0
    rows: int = 0
    logs: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        return self.checkpoints + self.trainer_states + self.rows + self.logs + self.other


class DiskMeter:
    """Measures directories. A file that has several names is counted where it is met first."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()

    def measure(self, path: Path) -> DiskUse:
        """Adds up what lies below `path`; what vanishes meanwhile, or cannot be looked at, counts
        nothing.
        """
        *_, use = self.steps(path)
        return use

    def steps(self, path: Path) -> Iterator[DiskUse]:
        """Does the same a folder at a time, and yields what is found so far: the last one is all.

        Many files on a slow disk take minutes, and whoever waits may have to do something else.
        """
        found: dict[str, int] = {}
        for files in _folders_below(path):
            for file, status in files:
                inode = status.st_dev, status.st_ino
                if inode not in self._seen:
                    self._seen.add(inode)
                    kind = _kind_of(file.relative_to(path))
                    found[kind] = found.get(kind, 0) + status.st_blocks * BLOCK_BYTES
            yield DiskUse(**found)


def _kind_of(path: PurePath) -> Kind:
    for folder in path.parts[:-1]:
        if folder in _KIND_OF_FOLDER:
            return _KIND_OF_FOLDER[folder]
    return _KIND_OF_FILE.get(path.name, "other")


def _folders_below(path: Path) -> Iterator[list[tuple[Path, os.stat_result]]]:
    """Yields the files of each folder; a link counts as itself, not as what it points to."""
    folders = [path]
    while folders:
        files: list[tuple[Path, os.stat_result]] = []
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                    else:
                        files.append((Path(entry.path), entry.stat(follow_symlinks=False)))
        yield files
