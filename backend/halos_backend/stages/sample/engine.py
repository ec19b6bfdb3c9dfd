"""What the sample stage asks of an engine, so that another one can take the place of ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from halos_backend.records import FinishReason


@dataclass(frozen=True)
class Request:
    """One completion to make. `seed` is its own, so that batch mates never matter to its draws."""

    prompt_token_ids: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class Generated:
    """What came of a request: the sampled ids, the end token included; and the text of them."""

    token_ids: tuple[int, ...]
    text: str
    finish_reason: FinishReason


class Engine(Protocol):
    """Generates batches of completions."""

    def generate(
        self, requests: Sequence[Request], *, finished: Callable[[int], None]
    ) -> list[Generated]:
        """Completions in the order of `requests`; calls `finished` with how many more are done."""
        ...
