"""Owns the `transformers` engine: one decoding loop for any causal language model.

Deviates from `GenerationMixin.generate` in two ways: each row draws with random numbers of its own,
and rows that have ended leave the batch instead of being decoded to the end of the slowest.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from halos_backend.config.schema import RunSettings
from halos_backend.errors import StageError
from halos_backend.records import FinishReason
from halos_backend.stages.models import (
    end_token_ids,
    load_config,
    load_policy,
    load_tokenizer,
    pick_device,
    resolve_dtype,
)
from halos_backend.stages.sample.draw import draw_tokens, uniforms
from halos_backend.stages.sample.engine import Generated, Request

LEAVE_FRAC = 0.25
"""Ended rows leave when they are this share of a batch; leaving copies the cache once."""


@dataclass
class TransformersEngine:
    """Generates with a loaded model. Made by `load_engine`."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    end_ids: frozenset[int]
    stop: tuple[str, ...]
    max_new_tokens: int
    temperature: float
    top_p: float
    device: torch.device
    _last_logits_only: bool = field(init=False)
    _special_ids: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        parameters = inspect.signature(self.model.forward).parameters
        self._special_ids = frozenset(self.tokenizer.all_special_ids)
        self._last_logits_only = "logits_to_keep" in parameters

    @torch.inference_mode()
    def generate(
        self, requests: Sequence[Request], *, stepped: Callable[[], None]
    ) -> Iterator[tuple[int, Generated]]:
        """See Engine."""
        numbers = uniforms([request.seed for request in requests], self.max_new_tokens)
        numbers = numbers.to(self.device)
        sampled: list[list[int]] = [[] for _ in requests]
        unfinished = set(range(len(requests)))
        rows = torch.arange(len(requests), device=self.device)
        has_ended = torch.zeros(len(requests), dtype=torch.bool, device=self.device)
        ids, mask = self._left_padded([request.prompt_token_ids for request in requests])
        cache: Any = None
        for step in range(self.max_new_tokens):
            logits, cache = self._forward(ids, mask, cache)
            tokens = draw_tokens(
                logits, numbers[rows, step], temperature=self.temperature, top_p=self.top_p
            )
            numbers_of_rows = rows.tolist()
            ended = self._take(tokens.tolist(), numbers_of_rows, has_ended.tolist(), sampled)
            stepped()
            for row in (numbers_of_rows[position] for position in ended):
                unfinished.remove(row)
                yield row, self._generated(sampled[row], "stop")
            has_ended[ended] = True
            num_ended = int(has_ended.sum())
            if num_ended == len(rows):
                break
            if num_ended >= LEAVE_FRAC * len(rows) and _can_shrink(cache):
                staying = (~has_ended).nonzero().squeeze(-1)
                cache.batch_select_indices(staying)
                rows, mask, tokens = rows[staying], mask[staying], tokens[staying]
                has_ended = has_ended[staying]
            ids = tokens.unsqueeze(-1)
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], -1)
        for row in sorted(unfinished):
            yield row, self._generated(sampled[row], "length")

    def _left_padded(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        width = max(len(prompt) for prompt in prompts)
        pad = self.tokenizer.pad_token_id or 0
        ids = [[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        return torch.tensor(ids, device=self.device), torch.tensor(mask, device=self.device)

    def _forward(self, ids: Tensor, mask: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Logits (rows, vocabulary) after the last token, and the cache with all tokens in it."""
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        extra = {"logits_to_keep": 1} if self._last_logits_only else {}
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            **extra,
        )
        if output.past_key_values is None:
            raise StageError(
                f"{type(self.model).__name__} keeps no cache of past tokens, which the transformers"
                " engine needs"
            )
        return output.logits[:, -1], output.past_key_values

    def _take(
        self,
        tokens: Sequence[int],
        rows: Sequence[int],
        has_ended: Sequence[bool],
        sampled: list[list[int]],
    ) -> list[int]:
        """Add each living row's token; returns the positions in the batch that end with it."""
        ended = []
        for position, (token, row) in enumerate(zip(tokens, rows, strict=True)):
            if has_ended[position]:
                continue
            sampled[row].append(token)
            if token in self.end_ids or self._has_stop(sampled[row]):
                ended.append(position)
        return ended

    def _has_stop(self, token_ids: list[int]) -> bool:
        """Whether the newest tokens complete a stop string; a token is a byte or more of text.

        A stop string may be a special token, and one of plain text may have a special token in it,
        which the completion's text leaves out.
        """
        if not self.stop:
            return False
        longest = max(len(stop.encode()) for stop in self.stop)
        tail = token_ids[-longest - 4 :]
        texts = [self.tokenizer.decode(tail, skip_special_tokens=False)]
        if not self._special_ids.isdisjoint(tail):
            plain = [token for token in token_ids if token not in self._special_ids]
            texts.append(self.tokenizer.decode(plain[-longest - 4 :]))
        return any(stop in text for stop in self.stop for text in texts)

    def _generated(self, token_ids: list[int], reason: FinishReason) -> Generated:
        text = self.tokenizer.decode(token_ids, skip_special_tokens=True)
        if reason == "stop":
            text = text[
                : min((text.find(stop) for stop in self.stop if stop in text), default=None)
            ]
        return Generated(tuple(token_ids), text, reason)


def load_engine(path: str, settings: RunSettings) -> TransformersEngine:
    """Load the policy at `path` for sampling. Raises UsageError."""
    policy, sample = settings.policy, settings.sample
    config = load_config(path, trust_remote_code=policy.trust_remote_code)
    tokenizer = load_tokenizer(path, policy)
    model = load_policy(path, policy, dtype=resolve_dtype(policy.dtype, config))
    device = pick_device(settings.launch)
    return TransformersEngine(
        model=model.to(device),
        tokenizer=tokenizer,
        end_ids=frozenset(end_token_ids(model, tokenizer) | set(sample.stop_token_ids)),
        stop=sample.stop,
        max_new_tokens=sample.max_new_tokens,
        temperature=sample.temperature,
        top_p=sample.top_p,
        device=device,
    )


def _can_shrink(cache: Any) -> bool:
    return hasattr(cache, "batch_select_indices")
