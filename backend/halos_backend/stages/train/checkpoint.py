"""Writes a round's results: a plain Hugging Face directory, and the trainer's state beside it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from halos_backend.config.schema import TrainSettings
from halos_backend.stages.train.optimizer import read_moments
from halos_backend.stages.train.trainee import Trainee, merged, state_files
from halos_backend.stages.train.trainer_state import (
    OPTIMIZER,
    disk_errors,
    header_of,
    write_trainer_state,
)
from halos_backend.store.run_dir import AttemptDir


def save_round(
    directory: AttemptDir,
    trainee: Trainee,
    optimizer: torch.optim.AdamW,
    tokenizer: PreTrainedTokenizerBase,
    settings: TrainSettings,
) -> tuple[Path, Path]:
    """The attempt's two outputs. The trainee is used up: merged and cast to its checkpoints' dtype.

    The trainer's state goes first, from the fp32 weights.
    """
    is_wanted = settings.keep_optimizer is not False
    moments = read_moments(optimizer, trainee.weights) if is_wanted else {}
    write_trainer_state(
        directory.trainer_state,
        header_of(settings),
        {**state_files(trainee), OPTIMIZER: moments},
    )
    model = merged(trainee)
    with disk_errors(directory.checkpoint):
        model.save_pretrained(directory.checkpoint)
    tokenizer.save_pretrained(directory.checkpoint)
    return directory.checkpoint, directory.trainer_state
