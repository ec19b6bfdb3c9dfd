"""Whether Liger's kernels can be used here, told without importing them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata

from packaging.version import Version

from halos_backend.config.kernels import ARCHITECTURES, INSTEAD, MIN_LIGER, TOO_NEW_LIGER

PACKAGE = "liger-kernel"
EXTRA = "pip install 'halos-tui[liger]'"


def find_liger_obstacle(
    *,
    has_gpu: bool,
    model_type: str | None = None,
    version: Callable[[str], str] = metadata.version,
) -> tuple[str, str]:
    """Why they cannot be used, and what to do; empty where they can.

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
