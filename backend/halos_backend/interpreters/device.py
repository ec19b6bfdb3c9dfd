"""Which kind of device stages find on this machine, without importing torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from halos_backend.config.schema import LaunchSettings

Device = Literal["cpu", "cuda", "rocm"]


def has_nvidia_device() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


def device_of(launch: LaunchSettings, environment: Mapping[str, str] = os.environ) -> Device:
    """What the stages of a run compute on."""
    if launch.device == "cpu" or environment.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return "cpu"
    if has_nvidia_device():
        return "cuda"
    return "rocm" if Path("/dev/kfd").exists() else "cpu"
