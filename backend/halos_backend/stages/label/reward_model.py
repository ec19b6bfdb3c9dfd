"""Owns the `reward_model` judge: a sequence classifier gives the reward.

Any AutoModelForSequenceClassification: one logit, two logits (the second is "good"), or an output
with `score` (ArmoRM, Wang et al. 2024). Sequences are batched under a token budget: packed where
the model takes that, else padded and by length.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from halos_backend.config import schema
from halos_backend.errors import OutOfMemoryError, UsageError
from halos_backend.stages.label.conversations import (
    known_of_conversations,
    load_judge_tokenizer,
    rows_of_conversations,
    tokenize_conversations,
)
from halos_backend.stages.label.judge import LabelRow, RewardOrReason, Unscored, checked
from halos_backend.stages.label.judge_cache import JudgeCache
from halos_backend.stages.label.packed import (
    packed_logits,
    packs_rewards,
    plan_batches,
    plan_packed,
    shared_beginnings,
)
from halos_backend.stages.model_limits import usable_context
from halos_backend.stages.models import load_classifier
from halos_backend.stages.ranks import Ranks

DEFAULT_BATCH_TOKENS = {"cuda": 16384, "cpu": 1024}
"""Is what was measured on CPUs: 16,384 is half as fast as 1,024, and with long rows slower than no
batches.
"""
ROUNDINGS = {torch.float32: 2.0**-18, torch.float16: 2.0**-9, torch.bfloat16: 2.0**-6}
"""Is the share of a reward by which equal conversations differ in batches of another shape.

Measured with random Llamas of 4 and 12 layers, alone and by eights, of the median reward: on
average 1e-6 and 2e-6, 0.001 and 0.002, 0.008 and 0.023; at most three to seven times as much.
"""


@dataclass(frozen=True)
class ClassifierJudge:
    """Scores conversations with one forward per batch; the batches are dealt over the ranks.

    Equal conversations are scored once.
    """

    path: str
    model: Any
    tokenizer: Any
    ranks: Ranks
    batch_tokens: int
    max_tokens: int
    identity: str
    own_pad_id: int | None
    packs: bool
    rounding: float
    engine: str = f"transformers {transformers.__version__}"

    def wake(self) -> None:
        """Moves the weights to the device; see LoadedJudge."""
        self.model.to(self.ranks.device)

    def park(self) -> None:
        """Moves the weights to host memory; see LoadedJudge."""
        if self.ranks.device.type == "cuda":
            self.model.to("cpu")
            torch.cuda.empty_cache()

    def close(self) -> None:
        """Frees the model; see LoadedJudge."""

    def score(
        self, rows: Sequence[LabelRow], known: Mapping[int, float]
    ) -> Iterator[tuple[int, RewardOrReason]]:
        """Scores rows; every rank must iterate to the end over the same rows; `known` is rank 0's.
        See Judge.

        Known rewards are taken only where they cover a batch: half a batch has another shape.
        """
        known = self.ranks.gather([known])[0]
        tokenized = tokenize_conversations(self.tokenizer, rows, max_tokens=self.max_tokens)
        for index, ids in enumerate(tokenized):
            if isinstance(ids, Unscored):
                yield index, ids
        same = rows_of_conversations(tokenized)
        sequences = {index: ids for index in same if isinstance(ids := tokenized[index], list)}
        known = known_of_conversations(same, known)
        check_vocabulary(sequences.values(), self.model.config, self.tokenizer, self.path)
        pad_id = 0 if self.packs else self._pad_id(list(sequences.values()))
        shared = shared_beginnings(sequences, {i: row.prompt_id for i, row in enumerate(rows)})
        todo: list[tuple[int, ...]] = []
        for batch in self._batches(sequences, shared):
            if all(index in known for index in batch):
                yield from ((row, known[index]) for index in batch for row in same[index])
            else:
                todo.append(batch)
        for start in range(0, len(todo), self.ranks.count):
            wave = todo[start : start + self.ranks.count]
            mine = wave[self.ranks.rank] if self.ranks.rank < len(wave) else ()
            rewards = self._rewards({i: (sequences[i], shared[i]) for i in mine}, pad_id)
            yield from (
                (row, checked(reward))
                for index, reward in self.ranks.gather(list(zip(mine, rewards, strict=True)))
                for row in same[index]
            )

    def _batches(
        self, sequences: Mapping[int, list[int]], shared: Mapping[int, int]
    ) -> list[tuple[int, ...]]:
        if self.packs:
            return plan_packed(sequences, shared, self.batch_tokens)
        positions = list(sequences)
        lengths = [len(sequences[index]) for index in positions]
        return [
            tuple(positions[place] for place in batch)
            for batch in plan_batches(lengths, self.batch_tokens)
        ]

    def _rewards(self, batch: Mapping[int, tuple[list[int], int]], pad_id: int) -> list[float]:
        """Returns rewards of conversations and how many first tokens each shares with others of its
        prompt.
        """
        if not batch:
            return []
        sequences = [ids for ids, _ in batch.values()]
        try:
            with torch.inference_mode():
                if self.packs:
                    parts = [(tuple(ids[:n]), tuple(ids[n:])) for ids, n in batch.values()]
                    logits = packed_logits(self.model, parts, self.own_pad_id)
                    output: Any = SequenceClassifierOutput(logits=logits)
                else:
                    output = self._padded_forward(sequences, pad_id)
                return rewards_of(output, len(sequences), self.path).float().tolist()
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"no memory left on {self.ranks.device} for {len(sequences)} conversations of"
                f" {max(map(len, sequences))} tokens: lower label.judge.batch_tokens (now"
                f" {self.batch_tokens})"
            ) from error

    def _padded_forward(self, sequences: Sequence[list[int]], pad_id: int) -> Any:
        """Returns the model's output for one batch, padded on the right."""
        longest = max(map(len, sequences))
        padded = [ids + [pad_id] * (longest - len(ids)) for ids in sequences]
        mask = [[1] * len(ids) + [0] * (longest - len(ids)) for ids in sequences]
        return self.model(
            input_ids=torch.tensor(padded, device=self.ranks.device),
            attention_mask=torch.tensor(mask, device=self.ranks.device),
        )

    def _pad_id(self, sequences: Sequence[list[int]]) -> int:
        """Returns the padding token, also set on the model, which finds the last token by it.

        The model's own where it has one. Otherwise one that no sequence holds, for an end token
        taken as padding would move the reward's position to the token before it.
        """
        config, pad_id = self.model.config, self.own_pad_id
        if pad_id is None or pad_id < 0:
            used = {token for ids in sequences for token in ids}
            vocabulary = num_tokens_known(config, self.tokenizer)
            pad_id = _unused_token(self.tokenizer.pad_token_id, used, vocabulary, self.path)
        config.pad_token_id = config.get_text_config().pad_token_id = pad_id
        return pad_id


def rewards_of(output: Any, num_sequences: int, path: str) -> torch.Tensor:
    """Returns (sequences,) rewards of a classifier's output. Raises UsageError when it is no
    reward.
    """
    score = getattr(output, "score", None)
    if score is not None and score.numel() == num_sequences:
        return score.reshape(num_sequences)
    logits = output.logits
    if logits.dim() == 2 and logits.shape[1] in (1, 2):
        return logits[:, -1]
    raise UsageError(
        f"{path} is no reward model: its output has shape {tuple(logits.shape)} for"
        f" {num_sequences} conversations. A reward model has one logit, two, or an output `score`"
    )


def check_vocabulary(
    sequences: Iterable[list[int]], config: Any, tokenizer: Any, path: str
) -> None:
    """Raises UsageError for a token that the model does not know."""
    last = max((max(ids) for ids in sequences), default=-1)
    known = num_tokens_known(config, tokenizer)
    if last >= known:
        raise UsageError(
            f"{path}: its tokenizer gives token {last}, but the model knows only {known}",
            fix="the two do not belong together, or the tokenizer was given tokens after"
            f" the model: then model.resize_token_embeddings({last + 1}), train, and save it",
        )


def num_tokens_known(config: Any, tokenizer: Any) -> int:
    """Returns the size of the model's vocabulary."""
    return getattr(config.get_text_config(), "vocab_size", None) or len(tokenizer)


def load_reward_model(
    settings: schema.RewardModelJudge, ranks: Ranks, cache: JudgeCache
) -> ClassifierJudge:
    """Returns the judge, its weights on the rank's device. Raises UsageError."""
    dtype = scoring_dtype(settings.dtype, ranks.device)
    identity = f"reward_model {judge_digest(settings, ranks.device, dtype)}"
    load = partial(load_judge, settings, ranks, dtype=dtype, identity=identity)
    return cache.get(identity, load)


def load_judge(
    settings: schema.RewardModelJudge, ranks: Ranks, *, dtype: torch.dtype, identity: str
) -> ClassifierJudge:
    """Loads a judge that no cache holds. Raises UsageError."""
    trust = settings.trust_remote_code
    tokenizer = load_judge_tokenizer(settings.path, trust_remote_code=trust)
    model = load_classifier(settings.path, dtype=dtype, trust_remote_code=trust, whole=True)
    model.config.use_cache = False  # keys and values of finished conversations serve nobody
    model.to(ranks.device)
    own_pad_id = getattr(model.config.get_text_config(), "pad_token_id", None)
    return ClassifierJudge(
        path=settings.path,
        model=model,
        tokenizer=tokenizer,
        ranks=ranks,
        batch_tokens=settings.batch_tokens or DEFAULT_BATCH_TOKENS[ranks.device.type],
        max_tokens=most_tokens(settings, model),
        identity=identity,
        own_pad_id=own_pad_id,
        packs=packs_rewards(model, ranks.device, own_pad_id),
        rounding=ROUNDINGS[dtype],
    )


def most_tokens(settings: schema.RewardModelJudge, model: PreTrainedModel) -> int:
    """Returns the most tokens of a conversation that is scored; of `model` the modules
    are enough.
    """
    limit = usable_context(model)
    return min(limit, settings.max_tokens or limit)


def scoring_dtype(name: str, device: torch.device) -> torch.dtype:
    """Returns a dtype: `auto` is bfloat16 where the device computes in it, else float32."""
    if name != "auto":
        return getattr(torch, name)
    has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if has_bfloat16 else torch.float32


def _unused_token(preferred: int | None, used: set[int], vocabulary: int, path: str) -> int:
    candidates = [] if preferred is None else [preferred]
    for token in (*candidates, *range(vocabulary)):
        if token not in used and token < vocabulary:
            return token
    raise UsageError(
        f"{path}: the model names no padding token", fix="set pad_token_id in config.json"
    )


def judge_digest(
    settings: schema.RewardModelJudge, device: torch.device, dtype: torch.dtype, *more: str
) -> str:
    """Digests a judge; names, sizes and times stand for the weights' bytes, which take seconds to
    read.
    """
    files = [
        (file.name, file.stat().st_size, file.stat().st_mtime_ns)
        for file in sorted(Path(settings.path).glob("*"))
        if file.is_file()
    ]
    described = json.dumps([settings.model_dump(), files, device.type, str(dtype), *more])
    return hashlib.sha256(described.encode()).hexdigest()
