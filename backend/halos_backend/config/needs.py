"""Estimates what a run needs: disk, the trainer's memory, and steps. Pure arithmetic.

`doctor` judges a machine by it, `supervisor.guards` the disk before each round.
"""

from __future__ import annotations

from halos_backend.config.losses import CSFT, GRPO, KTO, SFT
from halos_backend.config.schema import PairwiseFeedback, RunSettings, TrainSettings

MASTER_BYTES = 4
MOMENT_BYTES = 8
GRADIENT_BYTES = 4
"""Per trained parameter in float32: master weights, Adam's two moments, gradients."""

LORA_SHARE_PER_RANK = 0.004
"""An upper bound of trained parameters over all parameters, per unit of rank, for models from
100M parameters (135M: 0.0023, 8B: 0.0003)."""

ROW_BYTES_PER_TOKEN = 33
"""A completion's token in completions, scores and feedback: text and token id in each."""


def trained_parameters(train: TrainSettings, num_parameters: int) -> int:
    """Parameters that get gradients: all, or at most so many with adapters."""
    if train.lora is None:
        return num_parameters
    return int(num_parameters * min(1.0, LORA_SHARE_PER_RANK * train.lora.r))


def disk_needed_bytes(
    settings: RunSettings,
    *,
    num_parameters: int,
    checkpoint_bytes: int,
    num_prompts: int | None = None,
) -> int:
    """Most bytes a run has on disk at once: checkpoints, trainer states, and rows of text.

    While a round ends there are three trainer states: the round before's, this one's, and the one
    of mid-round.
    `num_prompts` is how many the source has; without it and without loop.num_prompts the rows are
    left out.
    """
    loop, train = settings.loop, settings.train
    checkpoints = loop.keep_checkpoints + int(loop.keep_best) + 1
    states = 2 * trainer_state_bytes(
        train, num_parameters=num_parameters, checkpoint_bytes=checkpoint_bytes
    ) + partial_state_bytes(train, num_parameters=num_parameters)
    prompts = total_prompts(settings, num_prompts) or 0
    return checkpoints * checkpoint_bytes + states + rows_bytes(settings, num_prompts=prompts)


def round_needed_bytes(
    settings: RunSettings, *, num_parameters: int, checkpoint_bytes: int, last_round_bytes: int = 0
) -> int:
    """Most bytes that a round has on disk at once of its own, before what it replaces is deleted.

    The last mid-round state is there until the round's checkpoint is proven. Two of them, while one
    replaces the other, are no more than that one and the results. `last_round_bytes` are what the
    round before left: no less is foreseen.
    """
    train = settings.train
    state = trainer_state_bytes(
        train, num_parameters=num_parameters, checkpoint_bytes=checkpoint_bytes
    )
    partial = partial_state_bytes(train, num_parameters=num_parameters)
    rows = rows_bytes(settings, num_prompts=settings.loop.prompts_per_round)
    left = max(rows + checkpoint_bytes + state, last_round_bytes)
    return left + (partial if max_steps(settings) > train.save_every_steps else 0)


def trainer_state_bytes(train: TrainSettings, *, num_parameters: int, checkpoint_bytes: int) -> int:
    """Of what a round leaves to the next one's trainer."""
    # A checkpoint in float32 is its own master copy.
    master = MASTER_BYTES if checkpoint_bytes < MASTER_BYTES * num_parameters else 0
    return trained_parameters(train, num_parameters) * (MOMENT_BYTES + master)


def partial_state_bytes(train: TrainSettings, *, num_parameters: int) -> int:
    """Of one mid-round state, which always has master weights."""
    return trained_parameters(train, num_parameters) * (MOMENT_BYTES + MASTER_BYTES)


def rows_bytes(settings: RunSettings, *, num_prompts: int) -> int:
    """Of completions, scores and feedback at most: every completion as long as it may be."""
    tokens = num_prompts * settings.sample.group_size * settings.sample.max_new_tokens
    return tokens * ROW_BYTES_PER_TOKEN


def trainer_memory_bytes(
    settings: RunSettings, *, num_parameters: int, checkpoint_bytes: int
) -> int:
    """Least bytes of one training process: weights, gradients, Adam. Activations come on top."""
    train = settings.train
    trained = trained_parameters(train, num_parameters)
    needed = trained * (MASTER_BYTES + MOMENT_BYTES + GRADIENT_BYTES)
    if train.lora is not None:
        needed += checkpoint_bytes
    if getattr(train.loss, "humanline", None) is not None:
        needed += checkpoint_bytes
    # parts are not quite equal, and one layer at a time is whole
    return needed // settings.launch.num_processes if settings.launch.sharding != "none" else needed


def total_prompts(settings: RunSettings, num_prompts: int | None) -> int | None:
    """Prompts over the whole run at most; None where nothing bounds them."""
    loop = settings.loop
    bounds = [
        None if num_prompts is None else num_prompts * loop.num_epochs,
        loop.num_prompts,
        None if loop.num_rounds is None else loop.num_rounds * loop.prompts_per_round,
    ]
    return min((bound for bound in bounds if bound is not None), default=None)


def examples_per_round(settings: RunSettings) -> int:
    """Most examples of one round, in what `train.batch_size` counts (see `example_noun`)."""
    feedback, size = settings.label.feedback, settings.sample.group_size
    per_prompt = size
    if isinstance(feedback, PairwiseFeedback):
        pairs = size // 2 if feedback.pairing == "random" else 1
        per_prompt = 2 * pairs if settings.train.loss.kind in ("kto", "csft") else pairs
    return settings.loop.prompts_per_round * per_prompt


def max_steps(settings: RunSettings) -> int:
    """Most optimizer steps of one round."""
    train = settings.train
    return -(-examples_per_round(settings) * train.num_epochs // train.batch_size)


def example_noun(settings: RunSettings) -> str:
    """What `train.batch_size` counts: a loss of one completion at a time takes pairs apart."""
    return "completions" if isinstance(settings.train.loss, KTO | SFT | CSFT | GRPO) else "pairs"
