"""Writes a round's results: a plain Hugging Face directory, and the trainer's state beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from halos_backend.config.schema import TrainSettings
from halos_backend.stages.train.optimizer import Moments
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
    moments: Moments,
    tokenizer: PreTrainedTokenizerBase,
    settings: TrainSettings,
    *,
    stays: bool = False,
) -> tuple[Path, Path]:
    """The attempt's two outputs. The trainee is used up, merged and cast to its checkpoints' dtype,
    unless it `stays`: then it is as before, but for adapters.

    The trainer's state goes first, from the fp32 weights.
    """
    is_wanted = settings.keep_optimizer is not False
    write_trainer_state(
        directory.trainer_state,
        header_of(settings),
        {**state_files(trainee), OPTIMIZER: moments if is_wanted else {}},
    )
    model = merged(trainee)
    cast = lent_in(trainee.dtype, model) if stays else nullcontext(model.to(trainee.dtype))
    with cast, disk_errors(directory.checkpoint):
        model.save_pretrained(directory.checkpoint)
    tokenizer.save_pretrained(directory.checkpoint)
    return directory.checkpoint, directory.trainer_state


@contextmanager
def lent_in(dtype: torch.dtype, model: PreTrainedModel) -> Iterator[None]:
    """The model in that dtype for a while; its own values come back, bit for bit."""
    tensors = [t for t in chain(model.parameters(), model.buffers()) if t.is_floating_point()]
    own = [tensor.data for tensor in tensors]
    for tensor in tensors:
        tensor.data = tensor.data.to(dtype)
    try:
        yield
    finally:
        for tensor, value in zip(tensors, own, strict=True):
            tensor.data = value
