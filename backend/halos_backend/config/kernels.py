"""Owns what `train.kernels = 'liger'` works with: settings, architectures, versions."""

from __future__ import annotations

from collections.abc import Iterator

from halos_backend.config.schema import RunSettings

ARCHITECTURES = ("granite", "llama", "mistral", "phi3", "qwen2", "qwen3")
"""Lists the architectures that Liger knows and of which it replaces RMSNorm and SwiGLU and nothing
else.
"""
MIN_LIGER, TOO_NEW_LIGER = "0.8", "0.9"
INSTEAD = "or write train.kernels = 'torch'"


def find_kernel_conflicts(settings: RunSettings) -> Iterator[tuple[str, str]]:
    """Says why Liger's kernels cannot be used with these settings, as (dotted path, reason)."""
    if settings.train.kernels == "torch":
        return
    if settings.launch.device == "cpu":
        yield "train.kernels", "'liger' needs a GPU, and launch.device is 'cpu': write 'torch'"
    if settings.launch.sharding != "none":
        yield (
            "train.kernels",
            f"'liger' does not go with launch.sharding = '{settings.launch.sharding}': write"
            " 'torch', or 'none' there",
        )
