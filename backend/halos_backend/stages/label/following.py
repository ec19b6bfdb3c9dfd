"""Reads a sample attempt's groups while it still writes them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator

import msgspec

from halos_backend import clock
from halos_backend.errors import CorruptFileError, StageError
from halos_backend.records import BAD_JSON, Group
from halos_backend.stages.presence import Presence
from halos_backend.stages.runtime import Attempt
from halos_backend.store.manifest import read_done
from halos_backend.store.run_dir import AttemptDir, RunDir, run_containing

POLL_S = 0.05
TELL_S = 10.0


class SupervisorGoneError(Exception):
    """Nobody is left to say that the sampling has failed."""


class Patience:
    """Waits for more, says now and then that it does, and not for ever.

    `tell` says something, so that waiting is not taken for stalling.
    """

    def __init__(self, attempt: Attempt, tell: Callable[[], None]) -> None:
        self._presence = Presence(RunDir(run_containing(attempt.directory.path)))
        self._tell = tell
        self._every_s = min(TELL_S, attempt.settings.launch.stall_timeout_s / 4)
        self._told = clock.monotonic()

    def wait(self) -> None:
        """For a moment. Raises SupervisorGoneError."""
        if self._presence.is_gone():
            raise SupervisorGoneError(
                "no supervisor, and the sampling that this follows is not done"
            )
        if clock.monotonic() - self._told > self._every_s:
            self._told = clock.monotonic()
            self._tell()
        time.sleep(POLL_S)


class Follower:
    """One sample attempt, which writes so many groups."""

    def __init__(self, sample: AttemptDir, num_groups: int, patience: Patience) -> None:
        self._sample = sample
        self._num_groups = num_groups
        self._patience = patience
        self._digest = hashlib.sha256()

    def groups(self) -> Iterator[Group]:
        """As they come. Raises CorruptFileError, StageError, SupervisorGoneError."""
        decoder = msgspec.json.Decoder(Group)
        for number, line in enumerate(self._lines(), start=1):
            self._digest.update(line)
            try:
                yield decoder.decode(line)
            except BAD_JSON as error:
                where = f"{self._sample.completions}, line {number}"
                raise CorruptFileError(f"{where}: {error}") from error

    def confirm(self) -> None:
        """Wait until the attempt is done and says that it wrote what was read; else StageError."""
        while (manifest := read_done(self._sample.path)) is None:
            self._patience.wait()
        path = self._sample.completions
        written = {entry.name: entry.sha256 for entry in manifest.files}
        if written.get(path.name) != self._digest.hexdigest():
            raise StageError(f"{path} is not what was read while it was written")

    def _lines(self) -> Iterator[bytes]:
        """So many whole lines of the file, newlines included."""
        path, left = self._sample.completions, self._num_groups
        while not path.exists():
            self._patience.wait()
        torn, was_done = b"", False
        with path.open("rb") as file:
            while left:
                torn += file.readline()
                if torn.endswith(b"\n"):
                    yield torn
                    torn, left = b"", left - 1
                elif was_done:
                    raise StageError(f"{path} ends {left} groups early")
                elif read_done(self._sample.path) is not None:
                    was_done = True  # but for what was written since the last look
                else:
                    self._patience.wait()
