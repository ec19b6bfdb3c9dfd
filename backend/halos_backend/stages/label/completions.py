"""The completions that a label attempt scores, in blocks: all there, or still being sampled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from halos_backend.errors import MissingInputError, StageError
from halos_backend.records import Group, read_rows
from halos_backend.stages.label.blocks import blocks_of, groups_per_block
from halos_backend.stages.label.following import Follower, Patience
from halos_backend.stages.runtime import Attempt
from halos_backend.store.job import LabelInputs
from halos_backend.store.run_dir import AttemptDir


class Completions:
    """Those of the sample attempt that the job names. `num_rows` counts completions.

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
        """`tell` says how far the stage is, now and then while it waits for more."""
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
