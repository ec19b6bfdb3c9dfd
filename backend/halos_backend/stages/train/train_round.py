"""Trains a round, from feedback to checkpoint: read it from top to bottom."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from halos_backend import clock
from halos_backend.config.losses import KTO
from halos_backend.errors import StageError
from halos_backend.stages.model_limits import filling_id
from halos_backend.stages.models import load_config, load_tokenizer
from halos_backend.stages.runtime import Attempt, StageResult
from halos_backend.stages.train.batches import Step, plan_steps
from halos_backend.stages.train.canary_check import check_canary
from halos_backend.stages.train.checkpoint import gathered, save_round
from halos_backend.stages.train.examples import RoundExamples, control_tokens, read_examples
from halos_backend.stages.train.kernels import check_kernels, use_liger
from halos_backend.stages.train.model_cache import ModelCache
from halos_backend.stages.train.optimizer import Moments, make_optimizer, restore_moments
from halos_backend.stages.train.ranks import join_train_ranks, make_deterministic
from halos_backend.stages.train.reference_pass import ReferencePass, with_kl_in_rewards
from halos_backend.stages.train.summary import (
    forget_peak_memory,
    peak_memory_bytes,
    summarize,
    summarize_untrained,
)
from halos_backend.stages.train.train_loop import train_steps
from halos_backend.stages.train.train_step import Trainer
from halos_backend.stages.train.trainee import Trainee, load_trainee, trainee_dtype
from halos_backend.stages.train.trainer_state import OPTIMIZER, TrainerState, open_trainer_state
from halos_backend.store.job import TrainInputs
from halos_backend.store.prompt_order import derived_seed


def train_round(attempt: Attempt, cache: ModelCache | None = None) -> StageResult:
    """Trains on the round's feedback. Every rank runs this; rank 0 alone writes.

    `cache` is for a process that stays.
    """
    started = clock.monotonic()
    settings, inputs, job = attempt.settings, _train_inputs(attempt), attempt.job
    torch.set_num_threads(job.num_threads)
    check_kernels(settings, inputs.model)
    tokenizer = load_tokenizer(inputs.model, settings.policy)
    made, steps = _plan(attempt, inputs, tokenizer)
    if not steps:
        return StageResult((), summarize_untrained(made, elapsed_s=clock.monotonic() - started))

    if job.num_processes > 1:
        attempt.phase("waiting for the other processes")
    ranks = join_train_ranks(job.num_processes, settings.launch, trainee_dtype(inputs, settings))
    make_deterministic(ranks.device)
    forget_peak_memory(ranks.device)

    attempt.phase("loading policy")
    torch.manual_seed(derived_seed(job.seed, job.round, "train"))
    trusted = settings.policy.trust_remote_code
    pad_token_id = filling_id(tokenizer, load_config(inputs.model, trust_remote_code=trusted))
    state = open_trainer_state(inputs.trainer_state)
    trainee, moments = (cache.trainee(inputs, settings, ranks.device) if cache else None) or (
        load_trainee(inputs, settings, state, pad_token_id=pad_token_id, ranks=ranks),
        None,
    )
    if settings.train.kernels == "liger" and (reason := use_liger(trainee.model)):
        attempt.warn(reason)
    canary = check_canary(attempt, inputs, ranks, trainee, pad_token_id)
    prefix = control_tokens(settings.train.loss, tokenizer, is_desirable=True)
    references = ReferencePass(
        attempt, inputs, ranks, trainee, pad_token_id, prefix, cache
    ).evaluate(steps)
    steps = with_kl_in_rewards(steps, settings.train.loss, references)
    if references.kl is not None:
        attempt.metrics(0, references.kl.figures())

    optimizer = make_optimizer(trainee.weights, settings.train)
    outcome = _carry_moments(attempt, inputs, optimizer, trainee, state, moments=moments)
    del moments  # where they were the host's of a GPU, the optimizer has copies
    trainer = Trainer(
        trainee=trainee,
        optimizer=optimizer,
        settings=settings.train,
        ranks=ranks,
        pad_token_id=pad_token_id,
        reference=references.reference,
        old=references.old,
        start=references.start,
        max_new_tokens=settings.sample.max_new_tokens,
    )
    history = train_steps(attempt, inputs, trainer, steps)

    attempt.phase("saving checkpoint")
    peak_bytes = int(ranks.max(peak_memory_bytes(ranks.device)))
    whole, trained_moments = gathered(trainee, optimizer, ranks)
    if not attempt.is_main:
        return StageResult()
    outputs = save_round(
        attempt.directory,
        whole,
        trained_moments,
        tokenizer,
        settings,
        attempt.seals,
        source=inputs.model,
        stays=cache is not None,
    )
    if cache is not None:
        cache.keep(attempt.directory, settings, trainee, trained_moments)
    summary = summarize(
        history,
        num_masked=made.num_masked if settings.train.mask_cut_off else None,
        kl=references.kl,
        canary=canary,
        peak_memory_bytes=peak_bytes,
        optimizer=outcome,
        elapsed_s=clock.monotonic() - started,
    )
    return StageResult(outputs, summary)


def _train_inputs(attempt: Attempt) -> TrainInputs:
    inputs = attempt.job.inputs
    if not isinstance(inputs, TrainInputs):
        raise StageError(f"{attempt.directory.job}: its inputs are not those of a train stage")
    return inputs


def _plan(
    attempt: Attempt, inputs: TrainInputs, tokenizer: PreTrainedTokenizerBase
) -> tuple[RoundExamples, list[Step]]:
    """Returns the round's examples and its optimizer steps, the same on every rank."""
    train = attempt.settings.train
    made = read_examples(
        Path(inputs.feedback),
        train.loss,
        tokenizer,
        mask_cut_off=train.mask_cut_off,
        temperature=attempt.settings.sample.temperature,
    )
    if made.num_unscored:
        attempt.warn(f"{made.num_unscored} completions without a reward are not trained on")
    if not made.examples:
        return made, []
    return made, plan_steps(
        made.examples,
        batch_size=train.batch_size,
        num_epochs=train.num_epochs,
        seed=derived_seed(attempt.job.seed, attempt.job.round),
        with_mismatched=isinstance(train.loss, KTO),
    )


def _carry_moments(
    attempt: Attempt,
    inputs: TrainInputs,
    optimizer: torch.optim.AdamW,
    trainee: Trainee,
    state: TrainerState | None,
    *,
    moments: Moments | None,
) -> str:
    """Restores the previous round's moments unless the job says not to; returns what the summary
    says of it.

    `moments` are those at hand, which become the optimizer's; without, they are read from `state`.

    Raises StageError when there are none to restore, or others than those of what is trained.
    """
    if state is None:
        return "new"
    if reason := inputs.reset_optimizer:
        if attempt.settings.train.keep_optimizer is not False:
            attempt.warn(f"the optimizer starts anew: {reason}")
        return f"reset: {reason}"
    if moments:
        restore_moments(optimizer, trainee.weights, moments, copies=False)
        return "kept"
    moments = state.tensors(OPTIMIZER)
    if moments is None:
        raise StageError(
            f"{state.path} has no {OPTIMIZER}.safetensors, so AdamW's moments cannot be carried:"
            " set train.keep_optimizer = false to start them anew"
        )
    restore_moments(optimizer, trainee.weights, moments)
    return "kept"
