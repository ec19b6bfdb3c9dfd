"""Refuses kernels that cannot be used, before any weights are loaded."""

from __future__ import annotations

from halos_backend.config.kernels import find_liger_obstacle
from halos_backend.config.schema import RunSettings
from halos_backend.errors import UsageError
from halos_backend.stages.models import load_config, pick_device


def check_kernels(settings: RunSettings, path: str) -> None:
    """Checks the kernels; `path` is the policy's. Raises UsageError with the fix."""
    if settings.train.kernels == "torch":
        return
    config = load_config(path, trust_remote_code=settings.policy.trust_remote_code)
    has_gpu = pick_device(settings.launch).type != "cpu"
    text, fix = find_liger_obstacle(has_gpu=has_gpu, model_type=config.model_type)
    if text:
        raise UsageError(text, fix=fix)
