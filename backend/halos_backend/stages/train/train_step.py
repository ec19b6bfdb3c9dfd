"""Does one optimizer step: shares of microbatches added up over the ranks, clipped, applied."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from halos_backend.config.losses import BCO, BradleyTerry
from halos_backend.config.schema import TrainSettings
from halos_backend.errors import NonFiniteError
from halos_backend.stages.packing import is_packed
from halos_backend.stages.train.batches import (
    Item,
    Sequences,
    Step,
    alone,
    example_length,
    microbatches,
    sequences_of,
    split_over_ranks,
)
from halos_backend.stages.train.collate import TokenBatch, collate
from halos_backend.stages.train.examples import (
    Example,
    GroupedExample,
    TokenSequence,
    UnpairedExample,
)
from halos_backend.stages.train.logps import run_idle, token_logps
from halos_backend.stages.train.losses.kto import kto_kl
from halos_backend.stages.train.objective import (
    Rows,
    Share,
    StepTotals,
    logratio_sums,
    metric_names,
    reward_share,
    share_of_step,
)
from halos_backend.stages.train.optimizer import clip_gradients, gradient_norm, set_lr
from halos_backend.stages.train.ranks import TrainRanks
from halos_backend.stages.train.reference import FollowingReference, TokenLogps, frozen_token_logps
from halos_backend.stages.train.sharding import is_sharded
from halos_backend.stages.train.trainee import Trainee


@dataclass(frozen=True)
class Trainer:
    """Holds what every step of a round needs. `reference` and `old` are None where the loss has
    none.

    `old` is what GRPO's ratios are to; with humanline it is the reference, as in HALOs. `start` is
    compared with the sampler. Completions have at most `max_new_tokens`.
    """

    trainee: Trainee
    optimizer: torch.optim.AdamW
    settings: TrainSettings
    ranks: TrainRanks
    pad_token_id: int
    reference: TokenLogps | None = None
    old: TokenLogps | None = None
    start: TokenLogps | None = None
    max_new_tokens: int = 0

    def step(self, number: int, step: Step, *, lr: float) -> dict[str, float]:
        """Does optimizer step `number` (from 1); returns its metrics, global over the step.

        Raises NonFiniteError before anything is changed.
        """
        totals = StepTotals(
            num_examples=len(step.examples),
            num_completion_tokens=step.num_completion_tokens,
            kto_kl=self._kto_kl(step) if step.mismatched else None,
            bco_shift=self._bco_shift(step),
            max_new_tokens=self.max_new_tokens,
        )
        sums = self._add_up(step.examples, totals)
        weights = self.trainee.weights
        if not is_sharded(self.trainee.model):  # whose backward pass adds them up
            self.ranks.sum_gradients(list(weights.values()))
        metrics = self._metrics(sums, gradient_norm(weights), totals)
        _check_finite(number, metrics)
        clip_gradients(weights, max_norm=self.settings.max_grad_norm, norm=metrics["grad_norm"])
        if isinstance(self.reference, FollowingReference):
            self.reference.before_update(number, self.trainee)
        set_lr(self.optimizer, lr)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)  # not held while results are written
        return metrics

    def _add_up(self, examples: Sequence[Example], totals: StepTotals) -> dict[str, Tensor]:
        """Runs forward and backward of this rank's microbatches; returns loss and metric sums over
        them.
        """
        names = metric_names(self.settings.loss)
        zero = torch.zeros((), dtype=torch.float64, device=self.ranks.device)
        sums = dict.fromkeys(["loss", *names, *(f"{name} count" for name in names)], zero)
        for members in self._microbatches(examples, sequences_of, example_length):
            if not members:
                self._idle().backward()
                continue
            with self.trainee.training():
                with self.ranks.autocast():
                    share = self._share(members, totals)
                if share.loss.requires_grad:  # not where all completions are empty
                    share.loss.backward()
            sums["loss"] = sums["loss"] + share.loss.detach()
            for name in names:
                value, count = share.sums[name]
                sums[name] = sums[name] + value.detach()
                sums[f"{name} count"] = sums[f"{name} count"] + count
        return sums

    def _microbatches(
        self, items: Sequence[Item], sequences: Sequences[Item], length: Callable[[Item], int]
    ) -> list[list[Item]]:
        """Returns this rank's microbatches. Of a sharded model every rank has equally many, the
        last of them empty.
        """

        def of(rank: int) -> list[list[Item]]:
            return microbatches(
                split_over_ranks(items, num_ranks=self.ranks.count, rank=rank, length=length),
                max_tokens=self.settings.microbatch_tokens,
                sequences=sequences,
                packs=is_packed(self.trainee.model),
            )

        mine = of(self.ranks.rank)
        if not is_sharded(self.trainee.model):
            return mine
        most = max(len(of(rank)) for rank in range(self.ranks.count))
        return [*mine, *([] for _ in range(most - len(mine)))]

    def _idle(self) -> Tensor:
        with self.trainee.training(), self.ranks.autocast():
            return run_idle(
                self.trainee.model,
                pad_token_id=self.pad_token_id,
                device=self.ranks.device,
                is_plain=self.trainee.is_plain,
            )

    def _share(self, members: Sequence[Example], totals: StepTotals) -> Share:
        """Computes a share; its rows are first of all examples the first sequence, then
        the second.
        """
        columns = zip(*(example.sequences for example in members), strict=True)
        batch = self._collate([sequence for column in columns for sequence in column])
        if isinstance(self.settings.loss, BradleyTerry):
            return reward_share(self._rewards(batch), totals)
        reference = self.reference.token_logps(batch) if self.reference else None
        old = reference
        if self.old is not self.reference:
            old = self.old.token_logps(batch) if self.old else None
        rows = Rows(
            token_logps=token_logps(self.trainee.model, batch, is_plain=self.trainee.is_plain),
            completion_mask=batch.completion_mask,
            reference_token_logps=reference,
            old_token_logps=old,
            start_token_logps=self.start.token_logps(batch) if self.start else None,
            sampler_token_logps=batch.sampler_logps if self.start else None,
            is_desirable=torch.tensor(
                [isinstance(e, UnpairedExample) and e.is_desirable for e in members],
                device=self.ranks.device,
            ),
            advantages=torch.tensor(
                [e.advantage if isinstance(e, GroupedExample) else 0.0 for e in members],
                device=self.ranks.device,
            ),
        )
        return share_of_step(self.settings.loss, rows, totals)

    def _rewards(self, batch: TokenBatch) -> Tensor:
        """Runs the classifier's own forward, so that a judge that loads it sees the same
        rewards.
        """
        logits: Tensor = self.trainee.model(
            input_ids=batch.padded.input_ids,
            attention_mask=batch.padded.attention_mask,
            use_cache=False,
        ).logits
        return logits.squeeze(-1).float()

    def _kto_kl(self, step: Step) -> Tensor:
        """Computes KTO's reference point over the whole step: policy against reference,
        mismatched.
        """
        return kto_kl(
            mismatched_logratios_sum=self._sum_of_logratios(step.mismatched),
            num_mismatched=len(step.mismatched),
        )

    def _bco_shift(self, step: Step) -> Tensor | None:
        """Computes the mean implicit reward over the whole step, where the loss is BCO's."""
        loss = self.settings.loss
        if not isinstance(loss, BCO):
            return None
        return loss.beta * self._sum_of_logratios(step.sequences) / len(step.sequences)

    def _sum_of_logratios(self, sequences: Sequence[TokenSequence]) -> Tensor:
        """Sums log-ratios of policy and reference over all ranks, without gradient."""
        total = torch.zeros((), device=self.ranks.device)
        for members in self._microbatches(sequences, alone, len):
            if not members:
                with torch.no_grad():
                    self._idle()
                continue
            batch = self._collate(members)
            assert self.reference is not None
            logratios = logratio_sums(
                self.settings.loss,
                token_logps=frozen_token_logps(
                    self.trainee.model, batch, self.ranks, is_plain=self.trainee.is_plain
                ),
                reference_token_logps=self.reference.token_logps(batch),
                mask=batch.completion_mask,
            )
            total = total + logratios.sum()
        return self.ranks.sum(total)

    def _collate(self, sequences: Sequence) -> TokenBatch:
        return collate(sequences, pad_token_id=self.pad_token_id, device=self.ranks.device)

    def _metrics(
        self, sums: Mapping[str, Tensor], norm: Tensor, totals: StepTotals
    ) -> dict[str, float]:
        """Returns the step's metrics: one sum over the ranks, one wait for the device."""
        summed = self.ranks.sum(torch.stack(list(sums.values())))
        kl = norm.new_zeros(()) if totals.kto_kl is None else totals.kto_kl
        *values, grad_norm, kto_reference = torch.cat(
            [summed, torch.stack([norm.double(), kl.double()])]
        ).tolist()
        by_name = dict(zip(sums, values, strict=True))
        metrics = {"loss": by_name["loss"], "grad_norm": grad_norm}
        for name in metric_names(self.settings.loss):
            if count := by_name[f"{name} count"]:
                metrics[name] = by_name[name] / count
        if "implicit_reward_chosen" in metrics and "implicit_reward_rejected" in metrics:
            chosen, rejected = (
                metrics["implicit_reward_chosen"],
                metrics["implicit_reward_rejected"],
            )
            metrics["implicit_reward_margin"] = chosen - rejected
        if totals.kto_kl is not None:
            metrics["kto_kl"] = kto_reference
        return metrics


def _check_finite(number: int, metrics: Mapping[str, float]) -> None:
    for name, words in (("loss", "loss"), ("grad_norm", "gradient norm")):
        if not math.isfinite(metrics[name]):
            raise NonFiniteError(
                f"the {words} of step {number} is {metrics[name]}; nothing was changed or saved."
                " Try a lower train.lr, a lower train.max_grad_norm or a longer"
                " train.warmup_frac, and look for broken rewards or weights"
            )
