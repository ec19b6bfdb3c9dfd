"""Owns the `transformers` engine: one decoding loop for any causal language model.

It deviates from `GenerationMixin.generate` in three ways: each row draws with random numbers of its
own, rows that have ended leave the batch instead of being decoded to the end of the slowest, and
models with a state that runs from token to token see neither padding, which may get into it, nor a
mask, which some of them take for the new tokens' alone. `draw` says how a token is drawn.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from halos_backend.config.schema import RunSettings
from halos_backend.errors import UsageError
from halos_backend.stages.model_limits import filling_id, is_recurrent
from halos_backend.stages.models import (
    load_config,
    load_policy,
    load_tokenizer,
    pick_device,
    resolve_dtype,
)
from halos_backend.stages.sample.draw import Draws
from halos_backend.stages.sample.engine import Generated, Request
from halos_backend.stages.sample.sampling import Sampling, make_sampling

LEAVE_FRAC = 0.25
"""Is the share of a batch from which ended rows leave; leaving copies the cache once."""
CACHES = ("past_key_values", "cache_params")
"""Names what models call their cache of past tokens; the second is Mamba's."""


@dataclass
class TransformersEngine:
    """Generates with a loaded model. `load_engine` makes it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    sampling: Sampling
    device: torch.device
    _parameters: frozenset[str] = field(init=False)
    _is_recurrent: bool = field(init=False)

    def __post_init__(self) -> None:
        self._is_recurrent = is_recurrent(self.model)
        self._parameters = frozenset(inspect.signature(self.model.forward).parameters)

    def generate(
        self, requests: Sequence[Request], *, stepped: Callable[[], None]
    ) -> Iterator[tuple[int, Generated]]:
        """Generates batch after batch; see Engine."""
        for places in self._batches(requests):
            batch = [requests[place] for place in places]
            for place, generated in self._generate(batch, stepped=stepped):
                yield places[place], generated

    def _batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """Returns places of requests that are decoded together: of one length where nothing may
        pad.
        """
        if not self._is_recurrent:
            return [list(range(len(requests)))]
        by_length: dict[int, list[int]] = {}
        for place, request in enumerate(requests):
            by_length.setdefault(len(request.prompt_token_ids), []).append(place)
        return list(by_length.values())

    @torch.inference_mode()
    def _generate(
        self, requests: Sequence[Request], *, stepped: Callable[[], None]
    ) -> Iterator[tuple[int, Generated]]:
        sampling, ending = self.sampling, self.sampling.ending
        draws = Draws(requests, sampling, self.device)
        sampled: list[list[int]] = [[] for _ in requests]
        logps = {row: list[float]() for row, asked in enumerate(requests) if asked.wants_logps}
        unfinished = set(range(len(requests)))
        rows = torch.arange(len(requests), device=self.device)
        has_ended = torch.zeros(len(requests), dtype=torch.bool, device=self.device)
        ids, mask = self._left_padded([request.prompt_token_ids for request in requests])
        cache: Any = None
        for step in range(sampling.max_new_tokens):
            logits, cache = self._forward(ids, mask, cache)
            tokens = draws.tokens(logits, rows, step)
            numbers_of_rows = rows.tolist()
            _take_logps(logps, logits, tokens, numbers_of_rows)
            ended = self._take(tokens.tolist(), numbers_of_rows, has_ended.tolist(), sampled)
            stepped()
            for row in (numbers_of_rows[position] for position in ended):
                unfinished.remove(row)
                yield row, ending.generated(sampled[row], "stop", logps.get(row, ()))
            has_ended[ended] = True
            num_ended = int(has_ended.sum())
            if num_ended == len(rows):
                break
            if num_ended >= LEAVE_FRAC * len(rows) and hasattr(cache, "reorder_cache"):
                staying = (~has_ended).nonzero().squeeze(-1)
                # takes fewer rows too; `batch_select_indices` forgets the states of hybrid layers
                cache.reorder_cache(staying)
                rows, mask, tokens = rows[staying], mask[staying], tokens[staying]
                has_ended = has_ended[staying]
            ids = tokens.unsqueeze(-1)
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], -1)
        for row in sorted(unfinished):
            yield row, ending.generated(sampled[row], "length", logps.get(row, ()))

    def _left_padded(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        width = max(len(prompt) for prompt in prompts)
        pad = filling_id(self.tokenizer, self.model.config)
        ids = [[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        return torch.tensor(ids, device=self.device), torch.tensor(mask, device=self.device)

    def _forward(self, ids: Tensor, mask: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Returns logits (rows, vocabulary) after the last token, and the cache with all tokens in
        it.
        """
        name = next(name for name in CACHES if name in self._parameters)
        given: dict[str, Any] = {name: cache, "use_cache": True}
        if not self._is_recurrent:
            given["attention_mask"] = mask
        if "position_ids" in self._parameters:
            given["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        if "logits_to_keep" in self._parameters:
            given["logits_to_keep"] = 1
        output = self.model(input_ids=ids, **given)
        return output.logits[:, -1], getattr(output, name)

    def _take(
        self,
        tokens: Sequence[int],
        rows: Sequence[int],
        has_ended: Sequence[bool],
        sampled: list[list[int]],
    ) -> list[int]:
        """Adds each living row's token; returns the positions in the batch that end with it."""
        ended = []
        for position, (token, row) in enumerate(zip(tokens, rows, strict=True)):
            if has_ended[position]:
                continue
            sampled[row].append(token)
            if self.sampling.ending.is_at(sampled[row]):
                ended.append(position)
        return ended

    def close(self) -> None:
        """Frees the model; see Engine."""


def load_engine(path: str, settings: RunSettings) -> TransformersEngine:
    """Loads the policy at `path` for sampling. Raises UsageError."""
    policy = settings.policy
    config = load_config(path, trust_remote_code=policy.trust_remote_code)
    tokenizer = load_tokenizer(path, policy)
    model = load_policy(path, policy, dtype=resolve_dtype(policy.dtype, config))
    if obstacle := find_obstacle(model):
        raise UsageError(f"the transformers engine cannot sample from {path}: {obstacle}")
    device = pick_device(settings.launch)
    return TransformersEngine(
        model=model.to(device),
        tokenizer=tokenizer,
        sampling=make_sampling(settings.sample, tokenizer, model.generation_config),
        device=device,
    )


def find_obstacle(model: PreTrainedModel) -> str | None:
    """Says why the engine cannot sample from the model, or its outline; None where nothing is
    known.
    """
    parameters = inspect.signature(model.forward).parameters
    name = type(model).__name__
    cache = next((cache for cache in CACHES if cache in parameters), None)
    if cache is None or (is_recurrent(model) and not _gives_back(model, cache)):
        return f"{name} gives back nothing of past tokens that could be handed to it again"
    if "attention_mask" not in parameters:
        return f"{name} takes no attention mask"
    return None


def _gives_back(model: PreTrainedModel, cache: str) -> bool:
    """Says whether the model's output has the cache; some keep their state in themselves."""
    ids = torch.zeros((1, 2), dtype=torch.long, device=model.device)
    with torch.inference_mode():
        try:
            output = model(input_ids=ids, use_cache=True)
        except (NotImplementedError, RuntimeError):
            return True  # an outline cannot compute everything
    return getattr(output, cache, None) is not None


def _take_logps(
    logps: Mapping[int, list[float]], logits: Tensor, tokens: Tensor, rows: Sequence[int]
) -> None:
    """Adds the newest tokens' log-probabilities of the rows in `logps`, ended ones included."""
    positions = [position for position, row in enumerate(rows) if row in logps]
    if not positions:
        return
    values = logits[positions].float().log_softmax(-1)
    newest = values.gather(-1, tokens[positions].unsqueeze(-1)).squeeze(-1).tolist()
    for position, value in zip(positions, newest, strict=True):
        logps[rows[position]].append(value)
