"""Owns what the sample stage asks of an engine; stands alone so that another one can take the place
of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from halos_backend.records import FinishReason


@dataclass(frozen=True)
class Request:
    """Asks for one completion. `seed` is its own, so that batch mates never matter to its draws.

    `wants_logps` asks for the log-probabilities of the sampled tokens; `temperature` is the
    completion's own, None where it is that of all.
    """

    prompt_token_ids: tuple[int, ...]
    seed: int
    wants_logps: bool = False
    temperature: float | None = None


@dataclass(frozen=True)
class Generated:
    """Is what came of a request: the sampled ids, the end token included; and the text of them.

    `logps` are the policy's own, before whatever changes what is drawn (penalty, temperature,
    nucleus); empty where nobody asked.
    """

    token_ids: tuple[int, ...]
    text: str
    finish_reason: FinishReason
    logps: tuple[float, ...] = ()


class Engine(Protocol):
    """Generates with a policy that is loaded: batch after batch, or a whole round at once."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Is the policy's tokenizer."""
        ...

    def generate(
        self, requests: Sequence[Request], *, stepped: Callable[[], None]
    ) -> Iterator[tuple[int, Generated]]:
        """Yields each completion once, with its position in `requests`, as it is finished.

        The order is the engine's. Calls `stepped` now and then, so that one sees it is at work.
        """
        ...

    def close(self) -> None:
        """Ends what it started; it generates no more."""
        ...
