"""Writes groups in the planned order, whatever order they are finished in; no finished one is lost.

What is finished before its turn goes into `early_groups.jsonl` at once, so that a later attempt has
it, and into `completions.jsonl` when those before it are there. What was written is counted for
StageFinished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from halos_backend import clock
from halos_backend.events.summaries import SampleSummary
from halos_backend.records import Group, encode_row
from halos_backend.stages.quantiles import quantiles
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
        """Writes the group of that prompt, and those that waited for it."""
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


@dataclass
class Tally:
    """Counts groups as they are written; `start` and `stop` enclose the generating."""

    num_reused: int = 0
    _lengths: list[int] = field(default_factory=list)
    _num_prompts: int = 0
    _num_truncated: int = 0
    _num_unique: int = 0
    _tokens_before: int = 0
    _started: float = 0.0
    _generating_s: float = 0.0

    def add(self, group: Group) -> None:
        self._num_prompts += 1
        self._num_unique += len({completion.text for completion in group.completions})
        for completion in group.completions:
            self._lengths.append(len(completion.token_ids))
            self._num_truncated += completion.finish_reason == "length"

    def start(self) -> None:
        self._tokens_before = sum(self._lengths)
        self._started = clock.monotonic()

    def stop(self) -> None:
        self._generating_s = clock.monotonic() - self._started

    def summary(
        self, *, elapsed_s: float, engine: str | None = None, engine_reason: str | None = None
    ) -> SampleSummary:
        """Sums up what was written, and what sampled it."""
        count, num_tokens = len(self._lengths), sum(self._lengths)
        generated = num_tokens - self._tokens_before if self._generating_s else 0
        spread = quantiles(self._lengths)
        return SampleSummary(
            num_prompts=self._num_prompts,
            num_completions=count,
            num_tokens=num_tokens,
            tokens_per_s=generated / self._generating_s if self._generating_s else None,
            length_mean=num_tokens / count,
            length_q05=spread["q05"],
            length_q25=spread["q25"],
            length_q50=spread["q50"],
            length_q75=spread["q75"],
            length_q95=spread["q95"],
            truncated_frac=self._num_truncated / count,
            unique_frac=self._num_unique / count,
            num_reused=self.num_reused,
            engine=engine,
            engine_reason=engine_reason,
            elapsed_s=elapsed_s,
        )
