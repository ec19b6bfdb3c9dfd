"""Owns the `reward_model` judge that scores with vLLM: token ids in, raw logits out.

Conversations become tokens as they do for transformers. A wave of them, longest first, is one
forward without padding.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vllm import LLMEngine, PoolingParams

from halos_backend.errors import StageError
from halos_backend.stages.label.conversations import (
    known_of_conversations,
    rows_of_conversations,
    tokenize_conversations,
)
from halos_backend.stages.label.judge import LabelRow, RewardOrReason, Unscored, checked
from halos_backend.stages.label.packed import plan_waves
from halos_backend.stages.label.reward_model import check_vocabulary
from halos_backend.stages.vllm.loading import Wanted

WANTED = Wanted(
    model="the reward model",
    table="label.judge.vllm",
    lower="label.judge.max_tokens",
    without="label.judge.engine = 'transformers' scores without it",
)
SLEEP_LEVEL = 1
"""Is the level of sleep that keeps the weights in host memory: they are the same in every round."""


@dataclass
class VllmJudge:
    """Scores with one engine, wave after wave. `room` is its longest conversation, in tokens.

    `own_pad_id` is the padding token of the model's configuration.
    """

    path: str
    config: Any
    tokenizer: Any
    max_tokens: int
    batch_tokens: int
    identity: str
    engine: str
    room: int
    loaded: LLMEngine
    own_pad_id: int | None
    rounding: float
    _names: Iterator[int] = field(default_factory=itertools.count, repr=False)
    _is_asleep: bool = False

    def score(
        self, rows: Sequence[LabelRow], known: Mapping[int, float]
    ) -> Iterator[tuple[int, RewardOrReason]]:
        """Scores rows; known rewards are taken only where they cover a wave. See Judge.

        Equal conversations are scored once.
        """
        tokenized = tokenize_conversations(self.tokenizer, rows, max_tokens=self.max_tokens)
        for index, ids in enumerate(tokenized):
            if isinstance(ids, Unscored):
                yield index, ids
        same = rows_of_conversations(tokenized)
        sequences = {index: ids for index in same if isinstance(ids := tokenized[index], list)}
        known = known_of_conversations(same, known)
        check_vocabulary(sequences.values(), self.config, self.tokenizer, self.path)
        for wave in self._waves(sequences):
            if all(index in known for index in wave):
                yield from ((row, known[index]) for index in wave for row in same[index])
                continue
            rewards = self._forward([sequences[index] for index in wave])
            for index, reward in zip(wave, rewards, strict=True):
                yield from ((row, checked(reward)) for row in same[index])

    def wake(self) -> None:
        """Wakes the engine; see LoadedJudge."""
        if self._is_asleep:
            self.loaded.wake_up()
            self._is_asleep = False

    def park(self) -> None:
        """Puts the engine to sleep; on a CPU there is no such thing. See LoadedJudge."""
        if self.loaded.vllm_config.model_config.enable_sleep_mode and not self._is_asleep:
            self.loaded.sleep(SLEEP_LEVEL)
            self._is_asleep = True

    def close(self) -> None:
        """Ends the engine and waits until vLLM's own processes are gone; see LoadedJudge."""
        self.loaded.engine_core.shutdown()
        del self.loaded
        gc.collect()  # an engine in this process is full of circles

    def _waves(self, sequences: Mapping[int, list[int]]) -> list[tuple[int, ...]]:
        positions = list(sequences)
        lengths = [len(sequences[index]) for index in positions]
        most = self.loaded.vllm_config.scheduler_config.max_num_seqs
        return [
            tuple(positions[place] for place in wave)
            for wave in plan_waves(lengths, self.batch_tokens, most)
        ]

    def _forward(self, sequences: Sequence[list[int]]) -> list[float]:
        """Returns the rewards of one wave: of each the last logit. Raises StageError."""
        places: dict[str, int] = {}
        for place, ids in enumerate(sequences):
            name = str(next(self._names))
            prompt: Any = {"prompt_token_ids": self._as_read(ids)}
            parameters = PoolingParams(task="classify", use_activation=False)
            self.loaded.add_request(name, prompt, parameters)
            places[name] = place
        rewards = [float("nan")] * len(sequences)
        while self.loaded.has_unfinished_requests():
            for output in self.loaded.step():
                rewards[places.pop(output.request_id)] = float(output.outputs.data.flatten()[-1])
        if places:
            raise StageError(f"vLLM ended {len(places)} conversations without a reward")
        return rewards

    def _as_read(self, ids: list[int]) -> list[int]:
        """Cuts ids where transformers reads the reward: after the last token that is not
        padding.
        """
        last = len(ids)
        while last > 1 and ids[last - 1] == self.own_pad_id:
            last -= 1
        return ids[:last]
