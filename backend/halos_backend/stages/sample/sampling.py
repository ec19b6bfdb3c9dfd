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
from halos_backend.stages.sample.engine import Generated, Request


@dataclass(frozen=True)
class Ending:
    """Knows the tokens and strings that end a completion, and what is said of one that
    has ended.

    The first `min_new_tokens` end nothing, and no string that is complete with them does.
    """

    tokenizer: PreTrainedTokenizerBase
    token_ids: frozenset[int]
    stop: tuple[str, ...]
    min_new_tokens: int = 0

    def is_at(self, token_ids: list[int]) -> bool:
        """Says whether the newest of a completion's tokens ends it."""
        if len(token_ids) <= self.min_new_tokens:
            return False
        return token_ids[-1] in self.token_ids or self._has_stop(token_ids)

    def generated(
        self, token_ids: Sequence[int], reason: FinishReason, logps: Sequence[float] = ()
    ) -> Generated:
        """Returns the finished completion; log-probabilities of tokens after its end are
        left out.
        """
        text = self._text(token_ids)
        if reason == "stop":
            early = self._text(token_ids[: self.min_new_tokens])
            text = text[: min(_starts(self.stop, text, early=early), default=None)]
        return Generated(tuple(token_ids), text, reason, tuple(logps[: len(token_ids)]))

    def _has_stop(self, token_ids: list[int]) -> bool:
        """Says whether the newest tokens complete a stop string; a token is a byte or more of text.

        A stop string may be a special token, and one of plain text may have a special token in it,
        which the completion's text leaves out.
        """
        if not self.stop:
            return False
        if self._completes_stop(token_ids, self.min_new_tokens):
            return True
        special = self._special_ids
        if special.isdisjoint(token_ids[-self._tail :]):
            return False
        plain = [token for token in token_ids if token not in special]
        num_early = sum(token not in special for token in token_ids[: self.min_new_tokens])
        return self._completes_stop(plain, num_early)

    def _completes_stop(self, token_ids: list[int], num_early: int) -> bool:
        tail = token_ids[-self._tail :]
        early = tail[: max(0, num_early - (len(token_ids) - len(tail)))]
        texts = [self.tokenizer.decode(part) if part else "" for part in (tail, early)]
        return bool(_starts(self.stop, texts[0], early=texts[1]))

    def _text(self, token_ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=True) if token_ids else ""

    @cached_property
    def _tail(self) -> int:
        """Counts the tokens that surely hold the longest stop string."""
        return max(len(stop.encode()) for stop in self.stop) + 4

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        return frozenset(self.tokenizer.all_special_ids)


def _starts(stops: Sequence[str], text: str, *, early: str) -> list[int]:
    """Returns where stop strings begin in `text`; those complete within `early`, its beginning, do
    not count.
    """
    starts = [text.find(stop, max(0, len(early) - len(stop) + 1)) for stop in stops]
    return [start for start in starts if start >= 0]


@dataclass(frozen=True)
class Sampling:
    """Holds what each completion of a round is drawn by. `temperature` is that of all completions
    but those whose request has one of its own.
    """

    ending: Ending
    max_new_tokens: int
    temperature: float
    top_p: float
    top_k: int | None = None
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def temperature_of(self, request: Request) -> float:
        return self.temperature if request.temperature is None else request.temperature


def own_temperature(sample: SampleSettings, k: int) -> float | None:
    """Returns the temperature of a group's k-th completion, from 0; None where all have one."""
    several = sample.temperatures
    return several[k % len(several)] if several else None


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
        ending=Ending(tokenizer, frozenset(ends), sample.stop, sample.min_new_tokens),
        max_new_tokens=sample.max_new_tokens,
        temperature=sample.temperature,
        top_p=sample.top_p,
        top_k=sample.top_k,
        min_p=sample.min_p,
        repetition_penalty=sample.repetition_penalty,
    )
