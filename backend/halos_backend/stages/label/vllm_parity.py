"""Decides whether vLLM may give the rewards: it must give those that transformers gives, of some
rows.

Where it does not, or cannot be loaded, transformers scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from halos_backend.config.schema import RewardModelJudge
from halos_backend.errors import HalosError, OutOfMemoryError, StageError, UsageError
from halos_backend.stages.label.conversations import load_judge_tokenizer, tokenize_conversations
from halos_backend.stages.label.judge import Judge, LabelRow, RewardOrReason, Unscored, short_reason
from halos_backend.stages.label.judge_cache import JudgeCache
from halos_backend.stages.label.reward_model import (
    DEFAULT_BATCH_TOKENS,
    ROUNDINGS,
    judge_digest,
    load_judge,
    load_reward_model,
    most_tokens,
    scoring_dtype,
)
from halos_backend.stages.label.vllm_arguments import pooling_arguments
from halos_backend.stages.models import empty_classifier
from halos_backend.stages.ranks import Ranks
from halos_backend.stages.runtime import Attempt
from halos_backend.stages.vllm.choose import choose_judge_engine

if TYPE_CHECKING:
    from halos_backend.stages.label.vllm_judge import VllmJudge

NUM_PROBES = 4
"""Is how many conversations both score, the shortest ones."""
TOLERANCES = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}
"""Is the largest difference that the dtype explains, of rewards of about 1; of larger ones that
part of the largest.

Measured on a CPU with SmolLM2-135M and a random head: 3e-6, 0.006 and 0.04.
"""
TF32_TOLERANCE = 5e-3
"""Is the tolerance on a GPU, whose attention kernels round float32 to TensorFloat-32."""
LEAST_ROOM = 256
"""Is the least room for a conversation, in tokens."""


class NotVllmError(HalosError):
    """Says why vLLM does not score. `lasts` says that it would not the next time either."""

    def __init__(self, reason: str, *, lasts: bool) -> None:
        super().__init__(reason)
        self.lasts = lasts


class VllmOrTransformers:
    """Is the judge for label.judge.engine = 'vllm'."""

    def __init__(
        self, attempt: Attempt, settings: RewardModelJudge, ranks: Ranks, cache: JudgeCache
    ) -> None:
        """Reads the model's configuration. Raises UsageError."""
        self._attempt = attempt
        self._settings = settings
        self._ranks = ranks
        self._cache = cache
        trust = settings.trust_remote_code
        self._dtype = scoring_dtype(settings.dtype, ranks.device)
        empty = empty_classifier(settings.path, trust_remote_code=trust)
        self._config, self._most_tokens = empty.config, most_tokens(settings, empty)
        self._tokenizer = load_judge_tokenizer(settings.path, trust_remote_code=trust)
        choice = choose_judge_engine(attempt.settings)
        self._engine = f"{choice.engine} {choice.version}"
        digest = judge_digest(settings, ranks.device, self._dtype, choice.version)
        self._identity = f"reward_model vllm {digest}"
        self._instead: Judge | None = None
        if choice.engine == "transformers":
            self._instead = self._fall_back(choice.why)

    def judge_of(self, rows: Sequence[LabelRow]) -> Judge:
        """Returns the judge for these rows.

        The first ones, and whatever is too long for an engine that is there, need one to be loaded
        and compared.
        """
        if self._instead is None:
            try:
                return self._proven(rows)
            except NotVllmError as error:
                if error.lasts:
                    self._cache.refused[self._identity] = str(error)
                self._instead = self._fall_back(str(error))
        return self._instead

    def _proven(self, rows: Sequence[LabelRow]) -> Judge:
        tokenized = tokenize_conversations(self._tokenizer, rows, max_tokens=self._most_tokens)
        lengths = {index: len(ids) for index, ids in enumerate(tokenized) if isinstance(ids, list)}
        if not lengths:
            reasons = [ids for ids in tokenized if isinstance(ids, Unscored)]
            return AllUnscored(self._identity, self._engine, reasons)
        if (reason := self._cache.refused.get(self._identity)) is not None:
            raise NotVllmError(reason, lasts=True)
        longest = max(lengths.values())
        shortest = sorted(lengths, key=lambda index: (lengths[index], index))[:NUM_PROBES]
        load = partial(self._load, [rows[index] for index in shortest], longest)
        return self._cache.get(self._identity, load, fits=lambda judge: judge.room >= longest)

    def _load(self, probes: Sequence[LabelRow], longest: int) -> VllmJudge:
        """Loads vLLM's judge. Raises NotVllmError, and UsageError for what is no reward model."""
        self._attempt.phase("loading reward model to compare with")
        expected = self._rewards_by_transformers(probes)
        self._attempt.phase(f"loading reward model ({self._engine})")
        judge = self._open(longest)
        try:
            self._compare(expected, self._first_rewards(judge, probes))
        except BaseException:
            judge.close()
            raise
        self._attempt.phase("scoring")
        return judge

    def _first_rewards(
        self, judge: VllmJudge, probes: Sequence[LabelRow]
    ) -> dict[int, RewardOrReason]:
        """Returns vLLM's rewards. Raises NotVllmError where vLLM has loaded the model and cannot
        compute it.
        """
        try:
            return dict(judge.score(probes, {}))
        except UsageError:
            raise
        except Exception as error:  # an engine that ends may raise anything
            said = short_reason(f"{type(error).__name__}: {error}")
            raise NotVllmError(f"{self._engine} scores nothing: {said}", lasts=False) from error

    def _compare(
        self, expected: Mapping[int, RewardOrReason], found: Mapping[int, RewardOrReason]
    ) -> None:
        """Compares rewards. Raises NotVllmError where vLLM gives other ones."""
        limit = tolerance(list(expected.values()), self._dtype, self._ranks.device)
        for index, reward in expected.items():
            if not _agree(reward, found[index], limit):
                raise NotVllmError(self._why_other(reward, found[index], limit), lasts=True)

    def _rewards_by_transformers(self, probes: Sequence[LabelRow]) -> dict[int, RewardOrReason]:
        """Returns transformers' rewards, made on the CPU: the device's memory is vLLM's."""
        alone = Ranks(0, 1, torch.device("cpu"))
        judge = load_judge(self._settings, alone, dtype=self._dtype, identity="")
        return dict(judge.score(probes, {}))

    def _open(self, longest: int) -> VllmJudge:
        """Loads an engine with room for conversations twice as long, so that it is seldom loaded
        anew.
        """
        from halos_backend.stages.label.vllm_judge import WANTED, VllmJudge  # imports vLLM
        from halos_backend.stages.vllm.loading import load_engine

        settings, device = self._settings, self._ranks.device
        limit = self._most_tokens
        room = min(limit, max(LEAST_ROOM, 2 ** (2 * longest - 1).bit_length()))
        batch_tokens = settings.batch_tokens or DEFAULT_BATCH_TOKENS[device.type]
        arguments = pooling_arguments(
            settings,
            self._config,
            device,
            self._dtype,
            max_model_len=room,
            batch_tokens=batch_tokens,
            seed=self._attempt.job.seed,
            stays=self._attempt.stays,
        )
        try:
            loaded = load_engine(arguments, WANTED)
        except StageError as error:
            raise NotVllmError(str(error), lasts=not isinstance(error, OutOfMemoryError)) from error
        return VllmJudge(
            path=settings.path,
            config=self._config,
            tokenizer=self._tokenizer,
            max_tokens=limit,
            batch_tokens=batch_tokens,
            identity=self._identity,
            engine=self._engine,
            room=room,
            loaded=loaded,
            own_pad_id=getattr(self._config.get_text_config(), "pad_token_id", None),
            rounding=ROUNDINGS[self._dtype],
        )

    def _why_other(self, expected: RewardOrReason, found: RewardOrReason, limit: float) -> str:
        name = str(self._dtype).removeprefix("torch.")
        return (
            f"{self._engine} gives a conversation {_shown(found)} and transformers"
            f" {_shown(expected)}, and {name} explains a difference of {limit:.2g}"
        )

    def _fall_back(self, reason: str) -> Judge:
        """Warns of it, and loads what scores instead."""
        self._attempt.warn(
            f"label.judge.engine = 'vllm': {reason}. The reward model is scored with transformers"
        )
        self._attempt.phase("loading reward model (transformers)")
        judge = load_reward_model(self._settings, self._ranks, self._cache)
        self._attempt.phase("scoring")
        return judge


@dataclass(frozen=True)
class AllUnscored:
    """Is the judge of rows that need none: not one of them can be scored."""

    identity: str
    engine: str
    reasons: Sequence[Unscored]
    rounding: float = 0.0

    def score(
        self,
        rows: Sequence[LabelRow],  # noqa: ARG002  they are those of the reasons
        known: Mapping[int, float],  # noqa: ARG002
    ) -> Iterator[tuple[int, RewardOrReason]]:
        """Yields a reason for each row; see Judge."""
        yield from enumerate(self.reasons)


def tolerance(
    expected: Sequence[RewardOrReason], dtype: torch.dtype, device: torch.device
) -> float:
    """Returns how far rewards of vLLM may be from these by transformers."""
    largest = max((abs(reward) for reward in expected if isinstance(reward, float)), default=0.0)
    share = TOLERANCES[dtype]
    if dtype is torch.float32 and device.type != "cpu":
        share = TF32_TOLERANCE
    return share * max(1.0, largest)


def _agree(expected: RewardOrReason, found: RewardOrReason, limit: float) -> bool:
    if isinstance(expected, Unscored) or isinstance(found, Unscored):
        return expected == found
    return abs(expected - found) <= limit


def _shown(reward: RewardOrReason) -> str:
    return reward.reason if isinstance(reward, Unscored) else f"{reward:.6g}"
