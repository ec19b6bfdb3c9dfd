"""Writes a round's results: a Hugging Face directory, proven to load alone, and the trainer's
state.

Of a sharded trainee and its moments it makes the plain ones that rank 0 writes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from halos_backend.config.losses import BradleyTerry
from halos_backend.config.schema import RunSettings
from halos_backend.errors import StageError, UsageError
from halos_backend.stages.carried_files import carry_along
from halos_backend.stages.models import outline_classifier, outline_policy
from halos_backend.stages.packing import is_packed
from halos_backend.stages.train.optimizer import Moments, read_moments
from halos_backend.stages.train.ranks import TrainRanks
from halos_backend.stages.train.sharding import gather, is_sharded
from halos_backend.stages.train.trainee import Trainee, merged, state_files
from halos_backend.stages.train.trainer_state import (
    OPTIMIZER,
    disk_errors,
    header_of,
    write_trainer_state,
)
from halos_backend.store.manifest import Seals
from halos_backend.store.run_dir import AttemptDir

MODEL_CARD = "README.md"
"""Is what peft writes beside its files, for a hub."""


def save_round(
    directory: AttemptDir,
    trainee: Trainee,
    moments: Moments,
    tokenizer: PreTrainedTokenizerBase,
    settings: RunSettings,
    seals: Seals,
    *,
    source: str,
    stays: bool = False,
) -> tuple[Path, Path]:
    """Writes the attempt's two outputs, each sealed once it is whole. Raises StageError, OSError.

    `source` is the model that was trained, whose other files go along. The trainee is used up,
    merged and cast to its checkpoints' dtype, unless it `stays`: then it is as before, but for
    adapters.
    """
    is_wanted = settings.train.keep_optimizer is not False
    kept = {**state_files(trainee), OPTIMIZER: moments if is_wanted else {}}
    # the fp32 values, whatever becomes of the parameters
    files = {
        name: {key: tensor.detach() for key, tensor in tensors.items()}
        for name, tensors in kept.items()
    }

    def save_state() -> None:
        digests = write_trainer_state(directory.trainer_state, header_of(settings.train), files)
        _save_adapter(directory.adapter, trainee)
        for path, digest in digests.items():
            seals.add(path, digest)
        seals.begin(directory.trainer_state)

    with ThreadPoolExecutor(1, thread_name_prefix="save") as pool:
        saving = pool.submit(save_state)
        if trainee.wrapper is not None:
            saving.result()  # adapters are merged into the very weights that are saved
        try:
            _save_checkpoint(directory.checkpoint, trainee, tokenizer, stays=stays)
            carry_along(source, directory.checkpoint)
            seals.begin(directory.checkpoint)
            _prove(directory.checkpoint, settings)
        finally:
            saving.result()
    return directory.checkpoint, directory.trainer_state


def _save_adapter(path: Path, trainee: Trainee) -> None:
    if trainee.wrapper is None or trainee.keeps_base:
        return
    with disk_errors(path):
        trainee.wrapper.save_pretrained(path, save_embedding_layers=False)
    (path / MODEL_CARD).unlink(missing_ok=True)


def _save_checkpoint(
    path: Path, trainee: Trainee, tokenizer: PreTrainedTokenizerBase, *, stays: bool
) -> None:
    model = merged(trainee)
    cast = lent_in(trainee.dtype, model) if stays else nullcontext(model.to(trainee.dtype))
    with cast, disk_errors(path):
        model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def _prove(path: Path, settings: RunSettings) -> None:
    """Proves a checkpoint. Raises StageError for one that does not load by itself with all of its
    tensors.
    """
    policy = settings.policy
    try:
        if isinstance(settings.train.loss, BradleyTerry):
            outline_classifier(str(path), trust_remote_code=policy.trust_remote_code)
        else:
            outline_policy(str(path), policy)
    except UsageError as error:
        raise StageError(f"the checkpoint that was just written does not load: {error}") from error


@contextmanager
def lent_in(dtype: torch.dtype, model: PreTrainedModel) -> Iterator[None]:
    """Lends the model in that dtype for a while; its own values come back, bit for bit."""
    tensors = [t for t in chain(model.parameters(), model.buffers()) if t.is_floating_point()]
    own = [tensor.data for tensor in tensors]
    for tensor in tensors:
        tensor.data = tensor.data.to(dtype)
    try:
        yield
    finally:
        for tensor, value in zip(tensors, own, strict=True):
            tensor.data = value


def gathered(
    trainee: Trainee, optimizer: torch.optim.AdamW, ranks: TrainRanks
) -> tuple[Trainee, Moments]:
    """Gathers the trainee and its moments; a sharded one's are on rank 0's CPU. Every rank must
    call it.

    On the other ranks a sharded one has no weights then.
    """
    moments = read_moments(optimizer, trainee.weights)
    if not is_sharded(trainee.model):
        return trainee, moments
    return _plain(trainee, ranks), gather(moments, ranks)


def _plain(trainee: Trainee, ranks: TrainRanks) -> Trainee:
    model: Any = trainee.model
    weights = gather(dict(model.named_parameters()), ranks)
    buffers = {name: value.cpu() for name, value in model.named_buffers()}
    config = copy.deepcopy(model.config)
    if is_packed(model):
        config._attn_implementation = "sdpa"  # what is packed had that
    with torch.device("meta"):
        plain: PreTrainedModel = type(model).__mro__[model._orig_cls_mro_index](config)
    plain.generation_config = model.generation_config
    plain.load_state_dict({**weights, **buffers}, strict=False, assign=True)
    plain.tie_weights()
    return replace(trainee, model=plain.eval().requires_grad_(True))
