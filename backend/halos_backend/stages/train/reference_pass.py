"""Computes, before a round's first step, what it needs of weights that do not move.

The models are the policy at the start of the round, the reference and the initial policy. Each is
loaded at most once, and not at all where it equals the policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel

from halos_backend.config.losses import (
    GRPO,
    LOSSES_WITH_REFERENCE,
    BradleyTerry,
    Humanline,
    Loss,
    wants_sampler_logps,
)
from halos_backend.errors import StageError
from halos_backend.stages.models import load_policy
from halos_backend.stages.packing import pack
from halos_backend.stages.runtime import Attempt
from halos_backend.stages.train.batches import Step
from halos_backend.stages.train.examples import GroupedExample, TokenSequence, with_rewards
from halos_backend.stages.train.kernels import use_kernels_of
from halos_backend.stages.train.kl_initial import (
    SAME_POLICY,
    KlInitial,
    estimate_kl,
    sample_completions,
)
from halos_backend.stages.train.logps import has_plain_head
from halos_backend.stages.train.model_cache import ModelCache
from halos_backend.stages.train.ranks import TrainRanks
from halos_backend.stages.train.reference import (
    AtTemperatureOne,
    FollowingReference,
    FrozenModel,
    LogpsTable,
    precompute,
)
from halos_backend.stages.train.sharding import shard
from halos_backend.stages.train.trainee import Trainee
from halos_backend.store.job import TrainInputs
from halos_backend.store.prompt_order import derived_seed


@dataclass(frozen=True)
class ReferenceValues:
    """Holds what the models gave.

    `old` is what GRPO's ratios are to: the policy at the start of the round, or humanline's
    reference. `start` is that policy at temperature 1, where the loss compares it with the sampler.
    `kl` is None without a policy.
    """

    reference: LogpsTable | FollowingReference | None = None
    old: LogpsTable | FollowingReference | None = None
    start: AtTemperatureOne | None = None
    kl: KlInitial | None = None


def with_kl_in_rewards(
    steps: Sequence[Step], loss: Loss, references: ReferenceValues
) -> list[Step]:
    """Returns the steps of a round with rewards less their KL to the reference, where the loss has
    it there (Ahmadian et al. 2024, arXiv 2402.14740), and with the advantages of these.
    """
    old, reference = references.old, references.reference
    if not (isinstance(loss, GRPO) and loss.kl_in == "reward"):
        return list(steps)
    assert isinstance(old, LogpsTable)
    assert isinstance(reference, LogpsTable)
    examples = {
        id(example): example
        for step in steps
        for example in step.examples
        if isinstance(example, GroupedExample)
    }
    rewards = [
        example.reward - loss.beta * _logratio(example.sequence, old, reference)
        for example in examples.values()
    ]
    changed = with_rewards(list(examples.values()), rewards, loss)
    by_id = dict(zip(examples, changed, strict=True))
    return [
        replace(step, examples=tuple(by_id[id(example)] for example in step.examples))
        for step in steps
    ]


def _logratio(sequence: TokenSequence, old: LogpsTable, reference: LogpsTable) -> float:
    return float((old.of(sequence).double() - reference.of(sequence).double()).sum())


@dataclass
class ReferencePass:
    """Runs the policy before its first step, and one other model at a time."""

    attempt: Attempt
    inputs: TrainInputs
    ranks: TrainRanks
    policy: Trainee
    pad_token_id: int
    sampling_prefix: tuple[int, ...] = ()
    cache: ModelCache | None = None
    _path: str | None = None
    _model: PreTrainedModel | None = None
    _is_plain: bool = False

    def evaluate(self, steps: Sequence[Step]) -> ReferenceValues:
        """Scores the round's sequences under every model that the loss and the KL ask for."""
        if isinstance(self.attempt.settings.train.loss, BradleyTerry):
            return ReferenceValues()
        kl = self._kl_initial()
        references = replace(self._references(steps), kl=kl)
        self._path, self._model = None, None
        if self.cache is not None:
            self.cache.rest()
        return references

    def _references(self, steps: Sequence[Step]) -> ReferenceValues:
        """Returns what the loss measures its ratios from.

        Humanline's reference is both of GRPO's, as in HALOs. It begins as the policy: other
        references are refused with it.
        """
        loss = self.attempt.settings.train.loss
        sequences = [s for step in steps for s in (*step.sequences, *step.mismatched)]
        humanline: Humanline | None = getattr(loss, "humanline", None)
        if humanline is not None:
            follower = FollowingReference.of(
                self.policy, self.ranks, sync_every=humanline.sync_every
            )
            return ReferenceValues(follower, follower if isinstance(loss, GRPO) else None)
        old = None
        if isinstance(loss, GRPO):
            self.attempt.phase("log-probabilities at the start of the round")
            old = self._table(None, sequences)
        start = None
        if old is not None and wants_sampler_logps(loss):
            at_one = [replace(sequence, temperature=1.0) for sequence in sequences]
            start = AtTemperatureOne(old if at_one == sequences else self._table(None, at_one))
        return ReferenceValues(self._reference(sequences, old), old, start)

    def _reference(
        self, sequences: Sequence[TokenSequence], old: LogpsTable | None
    ) -> LogpsTable | None:
        loss, path = self.attempt.settings.train.loss, self.inputs.reference
        if loss.kind not in LOSSES_WITH_REFERENCE:
            return None
        if path is None:
            raise StageError(f"the loss {loss.kind} needs a reference, and the job names none")
        if old is not None and self._is_policy(path):
            return old
        self.attempt.phase("reference log-probabilities")
        return self._table(path, sequences)

    @property
    def _is_initial(self) -> bool:
        """Says whether the policy at the start of the round is the run's first one."""
        return self.inputs.model == self.inputs.initial

    def _kl_initial(self) -> KlInitial | None:
        """Estimates the KL of the policy at the start of the round."""
        if self._is_initial:
            return SAME_POLICY
        self.attempt.phase("KL to the initial policy")
        job, train = self.attempt.job, self.attempt.settings.train
        sample = sample_completions(
            Path(self.inputs.completions),
            count=train.num_kl_completions,
            seed=derived_seed(job.seed, job.round, "kl_initial"),
            sampling_prefix=self.sampling_prefix,
        )
        return estimate_kl(
            FrozenModel(self.policy.model, self.policy.is_plain),
            FrozenModel(self._load(self.inputs.initial), self._is_plain),
            sample,
            self.ranks,
            pad_token_id=self.pad_token_id,
            max_tokens=train.microbatch_tokens,
            on_progress=partial(self.attempt.progress, unit="completions"),
        )

    def _table(self, path: str | None, sequences: Sequence[TokenSequence]) -> LogpsTable:
        """Returns the log-probabilities under the model at `path`, None for the policy's own."""
        if path is None or self._is_policy(path):
            model, is_plain = self.policy.model, self.policy.is_plain
        else:
            model = self._load(path)
            is_plain = self._is_plain
        return precompute(
            model,
            sequences,
            self.ranks,
            pad_token_id=self.pad_token_id,
            max_tokens=self.attempt.settings.train.microbatch_tokens,
            is_plain=is_plain,
            on_progress=partial(self.attempt.progress, unit="completions"),
        )

    def _is_policy(self, path: str) -> bool:
        return path == self.inputs.model and self.policy.equals_file

    def _load(self, path: str) -> PreTrainedModel:
        """Loads a model in fp32, like the policy: equal weights must give equal
        log-probabilities.
        """
        settings, device = self.attempt.settings, self.ranks.device
        if self._model is not None and self._path == path:
            return self._model
        self._model = None  # freed before the next one is loaded
        shards = settings.launch.sharding == "fsdp2"
        if self.cache is not None and path == self.inputs.initial:
            model = self.cache.reference_model(path, settings, device)
        else:
            model = load_policy(path, settings.policy, dtype=torch.float32)
            model = model if shards else model.to(device)
        self._is_plain = has_plain_head(model)
        if self._is_plain:
            pack(model, device)
        if reason := use_kernels_of(self.policy.model, model):
            self.attempt.warn(reason)
        if shards:
            shard(model, self.ranks)
        self._path, self._model = path, model
        return model
