"""Reads the completions that a label attempt scores, in blocks: all there, or still being sampled.

Groups of a block are scored together. Blocks follow the round's order, so that a block can be
scored, and its rewards are the same, while others are still sampled.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import msgspec

from halos_backend import clock
from halos_backend.config.schema import RewardModelJudge, RunSettings
from halos_backend.errors import CorruptFileError, MissingInputError, StageError
from halos_backend.records import BAD_JSON, Group, read_rows
from halos_backend.stages.runtime import Attempt
from halos_backend.stages.serving import Presence
from halos_backend.store.job import LabelInputs
from halos_backend.store.manifest import read_done
from halos_backend.store.run_dir import AttemptDir, RunDir, run_containing

BLOCK_COMPLETIONS = 256
"""Is the block size of each process. Fewer fill no GPU's batches; more make scoring wait for
sampling.
"""

POLL_S = 0.05
TELL_S = 10.0


class Completions:
    """Reads the completions of the sample attempt that the job names. `num_rows` counts
    completions.

    Raises StageError, CorruptFileError.
    """

    def __init__(self, attempt: Attempt) -> None:
        inputs = attempt.job.inputs
        if not isinstance(inputs, LabelInputs):
            raise StageError(f"{attempt.directory.job}: its inputs are not those of a label stage")
        self.path = Path(inputs.completions)
        self._attempt = attempt
        self._num_growing = inputs.num_growing
        if self._num_growing is None:
            self._groups = self._read()
            self.num_rows = sum(len(group.completions) for group in self._groups)
        else:
            self.num_rows = self._num_growing * attempt.settings.sample.group_size

    def blocks(self, tell: Callable[[], None]) -> Iterator[list[Group]]:
        """Yields blocks; `tell` says how far the stage is, now and then while it waits for more."""
        size = groups_per_block(self._attempt.settings, self._attempt.job.num_processes)
        if self._num_growing is None:
            yield from blocks_of(self._groups, size)
            return
        patience = Patience(self._attempt, tell)
        follower = Follower(AttemptDir(self.path.parent), self._num_growing, patience)
        yield from blocks_of(follower.groups(), size)
        follower.confirm()

    def _read(self) -> list[Group]:
        if not self.path.is_file():
            raise MissingInputError(
                f"there are no completions to label: {self.path} does not exist"
            )
        return list(read_rows(self.path, Group))


def groups_per_block(settings: RunSettings, num_processes: int) -> int:
    """Returns the groups of a block; a function or an API judges one completion at a time, and need
    not wait for others.
    """
    if not isinstance(settings.label.judge, RewardModelJudge):
        return 1
    completions = BLOCK_COMPLETIONS * num_processes
    return max(1, completions // settings.sample.group_size)


def blocks_of(groups: Iterable[Group], size: int) -> Iterator[list[Group]]:
    """Yields consecutive groups, each block as soon as its last group is there."""
    remaining = iter(groups)
    while block := list(islice(remaining, size)):
        yield block


class SupervisorGoneError(Exception):
    """Is raised where nobody is left to say that the sampling has failed."""


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
        """Waits for a moment. Raises SupervisorGoneError."""
        if self._presence.is_gone():
            raise SupervisorGoneError(
                "no supervisor, and the sampling that this follows is not done"
            )
        if clock.monotonic() - self._told > self._every_s:
            self._told = clock.monotonic()
            self._tell()
        time.sleep(POLL_S)


class Follower:
    """Follows one sample attempt, which writes so many groups."""

    def __init__(self, sample: AttemptDir, num_groups: int, patience: Patience) -> None:
        self._sample = sample
        self._num_groups = num_groups
        self._patience = patience
        self._digest = hashlib.sha256()

    def groups(self) -> Iterator[Group]:
        """Yields groups as they come. Raises CorruptFileError, StageError, SupervisorGoneError."""
        decoder = msgspec.json.Decoder(Group)
        for number, line in enumerate(self._lines(), start=1):
            self._digest.update(line)
            try:
                yield decoder.decode(line)
            except BAD_JSON as error:
                where = f"{self._sample.completions}, line {number}"
                raise CorruptFileError(f"{where}: {error}") from error

    def confirm(self) -> None:
        """Waits until the attempt is done and says that it wrote what was read; else StageError."""
        while (manifest := read_done(self._sample.path)) is None:
            self._patience.wait()
        path = self._sample.completions
        written = {entry.name: entry.sha256 for entry in manifest.files}
        if written.get(path.name) != self._digest.hexdigest():
            raise StageError(f"{path} is not what was read while it was written")

    def _lines(self) -> Iterator[bytes]:
        """Yields so many whole lines of the file, newlines included."""
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
                    was_done = True  # but for what was written since the last read
                else:
                    self._patience.wait()
