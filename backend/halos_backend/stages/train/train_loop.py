"""Does the optimizer steps of a round: learning rates, metrics, and states to go on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from halos_backend import clock
from halos_backend.config.losses import IPO, Loss, SLiC
from halos_backend.stages.runtime import Attempt
from halos_backend.stages.train.batches import Step
from halos_backend.stages.train.mid_round_state import (
    PartialHeader,
    StateWriter,
    find_partial_state,
    job_digest,
    write_partial_state,
)
from halos_backend.stages.train.optimizer import (
    read_moments,
    restore_moments,
    schedule_factor,
    step_progress,
)
from halos_backend.stages.train.reference import FollowingReference
from halos_backend.stages.train.sharding import is_sharded
from halos_backend.stages.train.train_step import Trainer
from halos_backend.stages.train.trainee import overwrite_weights
from halos_backend.store.job import TrainInputs
from halos_backend.store.prompt_order import derived_seed

History = list[dict[str, float]]


def train_steps(
    attempt: Attempt, inputs: TrainInputs, trainer: Trainer, steps: Sequence[Step]
) -> History:
    """Does all steps of the round, from where an earlier attempt left off; returns the metrics of
    each.
    """
    train, job = attempt.settings.train, attempt.job
    history = _resume(attempt, trainer)
    attempt.phase("training")
    attempt.progress(len(history), len(steps), "steps")
    with StateWriter(attempt.directory) as writer:
        for number in range(len(history) + 1, len(steps) + 1):
            writer.check()
            started = clock.monotonic()
            step = steps[number - 1]
            # by step, so that a resumed round needs no random state; by rank, for adapters' dropout
            torch.manual_seed(derived_seed(job.seed, job.round, "step", number, attempt.rank))
            lr = step_lr(attempt, inputs, number=number, num_steps=len(steps))
            metrics = trainer.step(number, step, lr=lr)
            metrics |= {
                "lr": lr,
                "num_tokens": step.num_tokens,
                "num_examples": len(step.examples),
                "tokens_per_s": step.num_tokens / (clock.monotonic() - started),
                **_strength(train.loss),
            }
            history.append(metrics)
            attempt.metrics(number, metrics)
            attempt.progress(number, len(steps), "steps")
            if number % train.save_every_steps == 0 and number < len(steps):
                _save_partial(attempt, trainer, history, writer)
    return history


def step_lr(attempt: Attempt, inputs: TrainInputs, *, number: int, num_steps: int) -> float:
    """Returns the learning rate of step `number` (from 1): the round's peak times the schedule's
    factor.
    """
    train = attempt.settings.train
    progress = step_progress(
        step=number,
        num_steps=num_steps,
        scope=train.schedule_scope,
        start=inputs.progress_start,
        end=inputs.progress_end,
    )
    return train.lr * schedule_factor(
        schedule=train.schedule, progress=progress, warmup_frac=train.warmup_frac
    )


def _strength(loss: Loss) -> dict[str, float]:
    """Returns the loss's main number, by its own name: for most the pull to the reference."""
    if isinstance(loss, IPO):
        return {"tau": loss.tau}
    if isinstance(loss, SLiC):
        return {"delta": loss.delta}
    beta: float | None = getattr(loss, "beta", None)
    return {} if beta is None else {"beta": beta}


def _save_partial(
    attempt: Attempt, trainer: Trainer, history: History, writer: StateWriter
) -> None:
    trainee = trainer.trainee
    reference: dict[str, Tensor] = {}
    if isinstance(trainer.reference, FollowingReference):
        reference = trainer.reference.weights(trainee)
    header = PartialHeader(len(history), job_digest(attempt.job), history)
    tensors: dict[str, Mapping[str, Tensor]] = {
        "weights": trainee.weights,
        "optimizer": read_moments(trainer.optimizer, trainee.weights),
        "reference": reference,
    }
    if is_sharded(trainee.model):
        write_partial_state(attempt.directory, header, tensors, ranks=trainer.ranks)
    elif attempt.is_main:
        writer.write(header, tensors)


def _resume(attempt: Attempt, trainer: Trainer) -> History:
    """Takes over the most advanced state of earlier attempts; returns the metrics of the steps it
    did.
    """
    weights = trainer.trainee.weights if is_sharded(trainer.trainee.model) else None
    state = find_partial_state(
        attempt.earlier_attempts, attempt.job, warn=attempt.warn, sharded_weights=weights
    )
    if state is None:
        return []
    attempt.phase(f"going on from step {state.step} of an earlier attempt")
    overwrite_weights(trainer.trainee, state.weights)
    restore_moments(trainer.optimizer, trainer.trainee.weights, state.optimizer)
    if isinstance(trainer.reference, FollowingReference) and state.reference:
        trainer.reference.restore(state.reference)
    return state.history
