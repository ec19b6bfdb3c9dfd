"""What StageFinished says of a sample stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from halos_backend import clock
from halos_backend.records import Group
from halos_backend.stages.quantiles import quantiles


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

    def summary(self, *, elapsed_s: float) -> dict[str, Any]:
        """Flat, with the names of every stage's summary; lengths are in tokens."""
        count, num_tokens = len(self._lengths), sum(self._lengths)
        generated = num_tokens - self._tokens_before if self._generating_s else 0
        return {
            "num_prompts": self._num_prompts,
            "num_completions": count,
            "num_tokens": num_tokens,
            "tokens_per_s": generated / self._generating_s if self._generating_s else None,
            "length_mean": num_tokens / count,
            **{f"length_{name}": value for name, value in quantiles(self._lengths).items()},
            "truncated_frac": self._num_truncated / count,
            "unique_frac": self._num_unique / count,
            "num_reused": self.num_reused,
            "elapsed_s": elapsed_s,
        }
