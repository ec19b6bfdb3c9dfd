"""Examines whether a run's kernels can be used here."""

from __future__ import annotations

from halos_backend.config.schema import RunSettings
from halos_backend.findings import Finding
from halos_backend.interpreters.device import device_of
from halos_backend.interpreters.liger import find_liger_obstacle


def examine_kernels(settings: RunSettings) -> list[Finding]:
    """Nothing where the trainer takes torch's own."""
    if settings.train.kernels == "torch":
        return []
    text, fix = find_liger_obstacle(has_gpu=device_of(settings.launch) != "cpu")
    if text:
        return [Finding("problem", "kernels", text, fix)]
    return [Finding("ok", "kernels", "the trainer takes Liger's")]
