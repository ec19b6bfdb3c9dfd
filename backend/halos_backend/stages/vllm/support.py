"""Asks vLLM whether it has the engine arguments and can hold a model, before anything loads."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection

from transformers import PretrainedConfig
from vllm import EngineArgs
from vllm.model_executor.models import ModelRegistry
from vllm.model_executor.models.interfaces import supports_lora
from vllm.platforms import current_platform

from halos_backend.config.engines import EngineSettings
from halos_backend.errors import UsageError
from halos_backend.interpreters.device import Device


def check_arguments(settings: EngineSettings, *, table: str) -> None:
    """Raises UsageError for an argument in `table` that this vLLM's engine does not have."""
    known = [field.name for field in dataclasses.fields(EngineArgs)]
    for name in settings.set_arguments:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean '{near[0]}'?" if near else ""
            raise UsageError(
                f"{table}.arguments.{name}: this vLLM's engine has no such argument{meant}"
            )


def find_obstacle(
    config: PretrainedConfig, device: Device, *, alternatives: Collection[str] = ()
) -> str | None:
    """Says why this vLLM cannot compute such a model here; None where nothing is known.

    `alternatives` are architectures that it makes the model's own of.
    """
    here = "cpu" if current_platform.is_cpu() else "rocm" if current_platform.is_rocm() else "cuda"
    if not current_platform.device_type or here != device:
        found = current_platform.device_type or "no device at all"
        return f"vLLM finds {found} where stages run on {device}"
    names = list(config.architectures or [])
    if not names or not {*names, *alternatives} & set(ModelRegistry.get_supported_archs()):
        return f"vLLM does not support {' or '.join(names) or 'a model without architecture'}"
    return _attention_obstacle(config) if device == "cpu" else None


def takes_adapters(config: PretrainedConfig) -> bool:
    """Says whether this vLLM takes LoRA adapters for such a model."""
    known = [name for name in config.architectures or [] if name in ModelRegistry.models]
    return any(supports_lora(ModelRegistry.models[name].load_model_cls()) for name in known)


def _attention_obstacle(config: PretrainedConfig) -> str | None:
    """Says what is in the way on a CPU, whose attention kernels are made for a few sizes
    of heads.
    """
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None)
    width = getattr(text, "hidden_size", None)
    size = getattr(text, "head_dim", None) or (width // heads if heads and width else None)
    sizes = CPUAttentionBackend.get_supported_head_sizes()
    if size is None or not sizes or size in sizes:
        return None
    return f"vLLM's attention on a CPU has no kernel for heads of {size}, only of {sizes}"
