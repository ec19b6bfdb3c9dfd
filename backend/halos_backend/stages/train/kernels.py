"""Puts Liger's RMSNorm and SwiGLU into one model and takes them out again.

Liger replaces the rotary embedding of all models of the process or of none, so it is left out; the
log-softmax of the completions is `logps`'s own. A model that the policy is compared with has the
policy's kernels: equal weights must give equal log-probabilities. Kernels that cannot be used are
refused before any weights are loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from halos_backend.config.kernels import ARCHITECTURES, find_liger_obstacle
from halos_backend.config.schema import RunSettings
from halos_backend.errors import UsageError
from halos_backend.stages.models import load_config, pick_device

MARK = "halos_uses_liger"
BOUND = ("forward", "extra_repr", "_get_name")
"""Lists what Liger binds to a module, over its class's own."""

TOLERANCE = 1e-3
"""Is how far hidden states with and without may differ, relative to the largest.

fp32 alone explains some 1e-6, but attention kernels on a GPU may round to TensorFloat-32, by 5e-4;
another formula is off by far more.
"""


def use_liger(model: PreTrainedModel) -> str | None:
    """Lets the model compute with Liger's kernels, if they give the same hidden states.

    The model must be on its GPU. Returns why it goes on without them; None where it does not.
    """
    if uses_liger(model):
        return None
    if model.config.model_type not in ARCHITECTURES:
        return f"Liger's kernels are not for {model.config.model_type}: that model goes on without"
    expected = _hidden_states(model)
    with _shared_names_kept():
        _bind(model)
    try:
        found = _hidden_states(model)
    except Exception as error:  # noqa: BLE001 - whatever a compiler of kernels may raise
        without_liger(model)
        first = (str(error).splitlines() or [""])[0]
        return f"Liger's kernels do not work here, train goes on without: {first}"
    difference = float((found - expected).abs().max() / expected.abs().max())
    if not difference <= TOLERANCE:
        without_liger(model)
        return (
            "Liger's kernels give other hidden states than torch's, train goes on without: they"
            f" differ by {difference:.2g} of the largest, and rounding explains {TOLERANCE:.2g}"
        )
    return None


def without_liger(model: PreTrainedModel) -> None:
    """Lets the model compute with its classes' own code again."""
    for module in model.modules():
        if module is not model and getattr(module.forward, "__module__", "").startswith("liger"):
            for name in BOUND:
                module.__dict__.pop(name, None)
    setattr(model, MARK, False)


def uses_liger(model: PreTrainedModel) -> bool:
    return bool(getattr(model, MARK, False))


def use_kernels_of(policy: PreTrainedModel, model: PreTrainedModel) -> str | None:
    """Lets the model compute with the policy's kernels. Returns why it cannot."""
    if uses_liger(policy):
        return use_liger(model)
    without_liger(model)
    return None


def _bind(model: PreTrainedModel) -> None:
    from liger_kernel.transformers import _apply_liger_kernel_to_instance  # an extra, on GPUs only

    _apply_liger_kernel_to_instance(
        model=model,
        rope=False,
        cross_entropy=False,
        fused_linear_cross_entropy=False,
        rms_norm=True,
        swiglu=True,
    )
    setattr(model, MARK, True)


@contextmanager
def _shared_names_kept() -> Iterator[None]:
    """Restores classes that Liger also replaces in transformers' modules, which other models are
    made of.
    """
    modules = [m for name, m in sys.modules.items() if name.startswith("transformers.models.")]
    before = [dict(vars(module)) for module in modules]
    try:
        yield
    finally:
        for module, names in zip(modules, before, strict=True):
            for name in names.keys() & vars(module).keys():
                if vars(module)[name] is not names[name]:
                    setattr(module, name, names[name])


def _hidden_states(model: PreTrainedModel) -> Tensor:
    """Returns the last hidden states of a few tokens, in the weights' dtype."""
    ids = torch.arange(8, device=model.device).remainder(model.config.vocab_size).unsqueeze(0)
    with torch.no_grad():
        hidden: Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return hidden.float()


def check_kernels(settings: RunSettings, path: str) -> None:
    """Checks the kernels; `path` is the policy's. Raises UsageError with the fix."""
    if settings.train.kernels == "torch":
        return
    config = load_config(path, trust_remote_code=settings.policy.trust_remote_code)
    has_gpu = pick_device(settings.launch).type != "cpu"
    text, fix = find_liger_obstacle(has_gpu=has_gpu, model_type=config.model_type)
    if text:
        raise UsageError(text, fix=fix)
