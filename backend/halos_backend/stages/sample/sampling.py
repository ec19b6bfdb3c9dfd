"""Decides how completions are drawn and where they end: the same for every engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from transformers import GenerationConfig, PreTrainedTokenizerBase

from halos_backend.config.schema import RunSettings, SampleSettings
from halos_backend.records import FinishReason
from halos_backend.stages.models import (
    end_token_ids,
    load_config,
    load_generation_config,
    load_tokenizer,
)
from halos_backend.stages.sample.engine import Generated


@dataclass(frozen=True)
class Ending:
    """Knows the tokens and strings that end a completion, and what is said of one that
    has ended.
    """

    tokenizer: PreTrainedTokenizerBase
    token_ids: frozenset[int]
    stop: tuple[str, ...]

    def is_at(self, token_ids: list[int]) -> bool:
        """Says whether the newest of a completion's tokens ends it."""
        return token_ids[-1] in self.token_ids or self._has_stop(token_ids)

    def generated(
        self, token_ids: Sequence[int], reason: FinishReason, logps: Sequence[float] = ()
    ) -> Generated:
        """Returns the finished completion; log-probabilities of tokens after its end are
        left out.
        """
        text = self.tokenizer.decode(list(token_ids), skip_special_tokens=True)
        if reason == "stop":
            text = text[
                : min((text.find(stop) for stop in self.stop if stop in text), default=None)
            ]
        return Generated(tuple(token_ids), text, reason, tuple(logps[: len(token_ids)]))

    def _has_stop(self, token_ids: list[int]) -> bool:
        """Says whether the newest tokens complete a stop string; a token is a byte or more of text.

        A stop string may be a special token, and one of plain text may have a special token in it,
        which the completion's text leaves out.
        """
        if not self.stop:
            return False
        tail = token_ids[-self._tail :]
        texts = [self.tokenizer.decode(tail, skip_special_tokens=False)]
        if not self._special_ids.isdisjoint(tail):
            plain = [token for token in token_ids if token not in self._special_ids]
            texts.append(self.tokenizer.decode(plain[-self._tail :]))
        return any(stop in text for stop in self.stop for text in texts)

    @cached_property
    def _tail(self) -> int:
        """Counts the tokens that surely hold the longest stop string."""
        return max(len(stop.encode()) for stop in self.stop) + 4

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        return frozenset(self.tokenizer.all_special_ids)


@dataclass(frozen=True)
class Sampling:
    """Holds what each completion of a round is drawn by."""

    ending: Ending
    max_new_tokens: int
    temperature: float
    top_p: float


def load_sampling(policy: str, settings: RunSettings) -> Sampling:
    """Makes the sampling of the policy at that path, whose weights are not read. Raises
    UsageError.
    """
    config = load_config(policy, trust_remote_code=settings.policy.trust_remote_code)
    generation = load_generation_config(policy, config)
    return make_sampling(settings.sample, load_tokenizer(policy, settings.policy), generation)


def make_sampling(
    sample: SampleSettings,
    tokenizer: PreTrainedTokenizerBase,
    generation: GenerationConfig | None,
) -> Sampling:
    """Makes the sampling; `generation` is the policy's own, which names end tokens."""
    ends = end_token_ids(generation, tokenizer) | set(sample.stop_token_ids)
    return Sampling(
        ending=Ending(tokenizer, frozenset(ends), sample.stop),
        max_new_tokens=sample.max_new_tokens,
        temperature=sample.temperature,
        top_p=sample.top_p,
    )
