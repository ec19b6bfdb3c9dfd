"""Writes groups in the planned order, whatever order they are finished in; no finished one is lost.

What is finished before its turn goes into `early_groups.jsonl` at once, so that a later attempt has
it, and into `completions.jsonl` when those before it are there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import BinaryIO

from halos_backend.records import Group, encode_row
from halos_backend.store.run_dir import AttemptDir


class GroupWriter:
    """Takes each group of `order`, the prompts' numbers, once; use it as a context."""

    def __init__(
        self, directory: AttemptDir, order: Sequence[int], written: Callable[[Group], None]
    ) -> None:
        self._directory = directory
        self._order = iter(order)
        self._next = next(self._order, None)
        self._written = written
        self._held: dict[int, Group] = {}
        self._early: BinaryIO | None = None

    def __enter__(self) -> GroupWriter:
        self._file = self._directory.completions.open("wb")
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        if self._early is not None:
            self._early.close()
        if not self._held:
            self._directory.early_groups.unlink(missing_ok=True)

    def add(self, index: int, group: Group) -> None:
        """Write the group of that prompt, and those that waited for it."""
        if index != self._next:
            self._keep(group)
        self._held[index] = group
        while self._next is not None and self._next in self._held:
            self._write(self._held.pop(self._next))
            self._next = next(self._order, None)
        self._file.flush()

    def _write(self, group: Group) -> None:
        self._file.write(encode_row(group))
        self._written(group)

    def _keep(self, group: Group) -> None:
        if self._early is None:
            self._early = self._directory.early_groups.open("wb")
        self._early.write(encode_row(group))
        self._early.flush()
