"""Owns what `train.kernels = 'liger'` works with: settings, architectures, versions, a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import metadata

from packaging.version import Version

from halos_backend.config.schema import RunSettings

ARCHITECTURES = ("granite", "llama", "mistral", "phi3", "qwen2", "qwen3")
"""Lists the architectures that Liger knows and of which it replaces RMSNorm and SwiGLU and nothing
else.
"""
MIN_LIGER, TOO_NEW_LIGER = "0.8", "0.9"
PACKAGE = "liger-kernel"
EXTRA = "pip install 'halos-tui[liger]'"
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


def find_liger_obstacle(
    *,
    has_gpu: bool,
    model_type: str | None = None,
    version: Callable[[str], str] = metadata.version,
) -> tuple[str, str]:
    """Says why they cannot be used, and what to do; empty where they can.

    `model_type` is the policy's, as its configuration names it; None where it is not known yet.
    """
    try:
        found = version(PACKAGE)
    except metadata.PackageNotFoundError:
        return f"train.kernels = 'liger', and {PACKAGE} is not installed", f"{EXTRA}, {INSTEAD}"
    if not Version(MIN_LIGER) <= Version(found) < Version(TOO_NEW_LIGER):
        return (
            f"train.kernels = 'liger', and {PACKAGE} {found} is none of those that work"
            f" ({MIN_LIGER} to below {TOO_NEW_LIGER})",
            f"{EXTRA}, {INSTEAD}",
        )
    if not has_gpu:
        return (
            "train.kernels = 'liger' needs a GPU, and none is found",
            "write train.kernels = 'torch'",
        )
    if model_type is not None and model_type not in ARCHITECTURES:
        return (
            f"train.kernels = 'liger' is for {', '.join(ARCHITECTURES)}, and the policy is a"
            f" {model_type}",
            "write train.kernels = 'torch'",
        )
    return "", ""
