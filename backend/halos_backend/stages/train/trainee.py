"""Owns the model that a round trains, in fp32 whatever its checkpoints' dtype: all of it, or
adapters.

Its dropout stays off, so that policy and reference can be compared token by token; only the
adapters' own is on while training. Of a whole model all weights that a token can meet are trained.
Gradient checkpointing leaves the layers' dropout off too: a layer of transformers asks `training`
both whether to be checkpointed and whether to drop, and some call `F.dropout` themselves, with
probabilities from anywhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from halos_backend.config.losses import BradleyTerry
from halos_backend.config.schema import LoRA, RunSettings
from halos_backend.errors import StageError
from halos_backend.stages.models import load_classifier, load_config, load_policy, resolve_dtype
from halos_backend.stages.packing import pack
from halos_backend.stages.train.logps import has_plain_head
from halos_backend.stages.train.ranks import TrainRanks
from halos_backend.stages.train.sharding import part_of, shard
from halos_backend.stages.train.trainer_state import (
    ADAPTER,
    BASE,
    MASTER,
    TrainerState,
    fits_adapters,
    fits_model,
)
from halos_backend.store.job import TrainInputs


@dataclass(frozen=True)
class Trainee:
    """Is a policy (for bradley_terry a reward model) under training.

    `wrapper` is peft's, around `model`. `dtype` is that of checkpoints. `equals_file` says that its
    weights at the start are exactly those of `inputs.model`. `keeps_base` says that the weights
    under the adapters are not the initial policy's and must be kept.
    """

    model: PreTrainedModel
    wrapper: Any | None
    dtype: torch.dtype
    is_plain: bool
    equals_file: bool
    keeps_base: bool

    @cached_property
    def weights(self) -> dict[str, nn.Parameter]:
        """Returns what is trained, by name; tied weights once."""
        named = self.model.named_parameters()
        return {name: weight for name, weight in named if weight.requires_grad}

    @property
    def base_weights(self) -> dict[str, nn.Parameter]:
        """Returns the frozen weights under the adapters, by the names they have without
        adapters.
        """
        named = self.model.named_parameters()
        return {
            name.replace(".base_layer", "").replace(".original_module", ""): weight
            for name, weight in named
            if not weight.requires_grad
        }

    @contextmanager
    def training(self) -> Iterator[None]:
        """Turns adapters' dropout and gradient checkpointing on, for forward and backward
        passes.
        """
        for module in self._switched:
            module.training = True
        try:
            yield
        finally:
            for module in self._switched:
                module.training = False

    @cached_property
    def _switched(self) -> list[nn.Module]:
        return [
            module
            for name, module in self.model.named_modules()
            if is_checkpointed(module) or ".lora_dropout." in name
        ]


def trainee_dtype(inputs: TrainInputs, settings: RunSettings) -> torch.dtype:
    config = load_config(inputs.model, trust_remote_code=settings.policy.trust_remote_code)
    return resolve_dtype(settings.policy.dtype, config)


def load_trainee(
    inputs: TrainInputs,
    settings: RunSettings,
    state: TrainerState | None,
    *,
    pad_token_id: int,
    ranks: TrainRanks,
) -> Trainee:
    """Loads the policy as the previous round left it. Raises StageError, UsageError.

    It is on the ranks' devices, or sharded over them.
    """
    shards = settings.launch.sharding == "fsdp2"
    dtype = trainee_dtype(inputs, settings)
    carried = state if state is not None and fits_model(state, settings.train) else None
    adapters = carried.tensors(ADAPTER) if carried else None
    path = inputs.initial if adapters else inputs.model
    model = _load_fp32(path, settings, pad_token_id)
    base = carried.tensors(BASE) if carried else None
    master = carried.tensors(MASTER) if carried else None
    if base is not None:
        _overwrite(dict(model.named_parameters()), base, what="base weights")
    if master is not None:
        _check_belongs(model, master, dtype, path)
        _overwrite(dict(model.named_parameters()), master, what="master weights")
    equals_file = adapters is None and master is None
    if carried and adapters and not fits_adapters(carried, settings.train):
        model = _with_merged(model, carried, adapters)
        adapters = base = None
    wrapper = None
    if settings.train.lora is not None:
        is_classifier = isinstance(settings.train.loss, BradleyTerry)
        wrapper = with_adapters(model, settings.train.lora, is_classifier=is_classifier)
        model = wrapper.get_base_model()
    else:
        train_all(model)
    if not shards:
        model.to(ranks.device)
    if settings.train.gradient_checkpointing:
        enable_checkpointing(model)
    is_plain = has_plain_head(model.eval())
    if is_plain:
        pack(model, ranks.device)
    if shards:
        shard(model, ranks)
    trainee = Trainee(
        model=model,
        wrapper=wrapper,
        dtype=dtype,
        is_plain=is_plain,
        equals_file=equals_file,
        keeps_base=base is not None or (adapters is None and inputs.model != inputs.initial),
    )
    if adapters is not None:
        _overwrite(trainee.weights, adapters, what="adapters")
    return trainee


def merged(trainee: Trainee) -> PreTrainedModel:
    """Returns the plain model in fp32, adapters merged in, which uses them up."""
    return trainee.model if trainee.wrapper is None else trainee.wrapper.merge_and_unload()


def state_files(trainee: Trainee) -> dict[str, Mapping[str, Tensor]]:
    """Returns the weights that the next round needs beside the checkpoint. Call it before
    `merged`.
    """
    if trainee.wrapper is not None:
        base = trainee.base_weights if trainee.keeps_base else {}
        return {ADAPTER: trainee.weights, BASE: base}
    is_exact = trainee.dtype == torch.float32
    return {MASTER: {} if is_exact else dict(trainee.model.named_parameters())}


def overwrite_weights(trainee: Trainee, tensors: Mapping[str, Tensor]) -> None:
    """Puts saved values into what is trained. Raises StageError when names or shapes differ."""
    _overwrite(trainee.weights, tensors, what="weights")


def _load_fp32(path: str, settings: RunSettings, pad_token_id: int) -> PreTrainedModel:
    """Loads a model in fp32. A policy's configuration stays as it is: its pad token's embedding
    would stop learning.
    """
    policy = settings.policy
    if not isinstance(settings.train.loss, BradleyTerry):
        return load_policy(path, policy, dtype=torch.float32)
    classifier = load_classifier(
        path, dtype=torch.float32, trust_remote_code=policy.trust_remote_code, num_labels=1
    )
    # by it the classifier finds the last token of a padded row
    classifier.config.get_text_config().pad_token_id = pad_token_id
    return classifier


def with_adapters(model: PreTrainedModel, lora: LoRA, *, is_classifier: bool) -> Any:
    """Returns peft's wrapper around the model, in which adapters are now. Raises StageError."""
    from peft import LoraConfig, TaskType, get_peft_model  # 0.3 s that full training need not pay

    targets = lora.target_modules
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type=TaskType.SEQ_CLS if is_classifier else TaskType.CAUSAL_LM,
    )
    try:
        with warnings.catch_warnings():
            # peft 0.21 asks transformers 5.23 by a name that is on its way out, finds out by itself
            # how GPT-2's weights lie, and looks for experts that are not targeted
            for message in (".*is_gradient_checkpointing", "fan_in_fan_out", ".*_pattern keys"):
                warnings.filterwarnings("ignore", message=message)
            return get_peft_model(model, config)
    except ValueError as error:
        raise StageError(f"train.lora.target_modules: {error}") from error


def _with_merged(
    model: PreTrainedModel, state: TrainerState, adapters: Mapping[str, Tensor]
) -> PreTrainedModel:
    """Returns the previous round's policy in fp32: its adapters, which this round has not, merged
    in.
    """
    lora = LoRA.model_validate(state.header.adapter)
    wrapper = with_adapters(model, lora, is_classifier=state.header.is_classifier)
    named = wrapper.get_base_model().named_parameters()
    trained = {name: weight for name, weight in named if weight.requires_grad}
    _overwrite(trained, adapters, what="adapters")
    merged_model: PreTrainedModel = wrapper.merge_and_unload()
    return merged_model


def _overwrite(weights: Mapping[str, Tensor], tensors: Mapping[str, Tensor], *, what: str) -> None:
    if differing := weights.keys() ^ tensors.keys():
        raise StageError(f"the saved {what} are of another model: {min(differing)} and others")
    with torch.no_grad():
        for name, weight in weights.items():
            if weight.shape != tensors[name].shape:
                raise StageError(f"the saved {what} have another shape than {name}")
            weight.copy_(part_of(tensors[name], weight))


def _check_belongs(
    model: PreTrainedModel, master: Mapping[str, Tensor], dtype: torch.dtype, path: str
) -> None:
    """Checks that the checkpoint is the master weights rounded; else one of the two is somebody
    else's.
    """
    for name, weight in model.named_parameters():
        if name in master and not torch.equal(weight, master[name].to(dtype).float()):
            raise StageError(
                f"{Path(path)} and the previous round's trainer state are not of one model"
                f" ({name} differs): policy and trainer state must come from the same round"
            )


def train_all(model: PreTrainedModel) -> None:
    """Lets the weights be trained; of a model that sees or hears, not those of its other senses.

    Text gives these no gradient, and AdamW would let them decay.
    """
    model.requires_grad_(True)
    body = model.base_model
    if body is model or model.config.get_text_config() is model.config:
        return
    met = {*model.get_decoder().parameters(), *model.get_input_embeddings().parameters()}
    for weight in body.parameters():
        weight.requires_grad_(weight in met)


def enable_checkpointing(model: PreTrainedModel) -> None:
    """Lets the layers be checkpointed while their `training` is on. Raises StageError."""
    # the older of its two names warns where there is the newer one
    enable = getattr(model, "activation_checkpointing_enable", None)
    try:
        (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
    except ValueError as error:
        raise StageError(f"train.gradient_checkpointing: {error}", fix="set it to false") from error
    layers: list[Any] = [module for module in model.modules() if is_checkpointed(module)]
    for layer in layers:
        checkpoint = layer._gradient_checkpointing_func
        layer._gradient_checkpointing_func = partial(_run, layer, checkpoint)


def is_checkpointed(module: nn.Module) -> bool:
    return isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing


def _run(layer: nn.Module, checkpoint: Any, function: Callable[..., Any], *inputs: Any) -> Any:
    """Checkpoints the layer's `function`, which runs again in the backward pass."""

    def evaluating(*inputs: Any) -> Any:
        layer.training = False
        try:
            return function(*inputs)
        finally:
            layer.training = True

    return checkpoint(evaluating, *inputs)
