"""Finds which kind of device stages have on this machine, without importing torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from halos_backend.errors import UsageError

if TYPE_CHECKING:
    from halos_backend.config.schema import LaunchSettings

Device = Literal["cpu", "cuda", "rocm"]


def has_nvidia_device() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


def visible_gpus(
    launch: LaunchSettings, environment: Mapping[str, str] = os.environ
) -> tuple[str, ...] | None:
    """Returns the run's GPUs as CUDA_VISIBLE_DEVICES names them; None is all that there are.

    `launch.devices` counts those that the environment shows; what it does not show is left out.
    """
    shown = shown_gpus(environment)
    if launch.devices is None:
        return shown
    if shown is None:
        return tuple(str(number) for number in launch.devices)
    return tuple(shown[number] for number in launch.devices if number < len(shown))


def shown_gpus(environment: Mapping[str, str] = os.environ) -> tuple[str, ...] | None:
    """Returns what the environment's CUDA_VISIBLE_DEVICES names; None where it shows all."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return None
    return tuple(name.strip() for name in visible.split(",") if name.strip())


def device_names(
    launch: LaunchSettings, environment: Mapping[str, str] = os.environ
) -> tuple[str, ...]:
    """Returns the run's GPUs as CUDA_VISIBLE_DEVICES names them.

    They are numbers, or GPU-uuids; () where the run takes what there is. `launch.devices` counts
    the GPUs that the environment's own CUDA_VISIBLE_DEVICES shows, as CUDA does; without one, all
    of the machine in nvidia-smi's order. Raises UsageError for a GPU that it does not show.
    """
    if launch.devices is None:
        return ()
    shown = shown_gpus(environment)
    hidden = [number for number in launch.devices if shown is not None and number >= len(shown)]
    if shown is not None and hidden:
        visible = environment["CUDA_VISIBLE_DEVICES"]
        raise UsageError(
            f"launch.devices: CUDA_VISIBLE_DEVICES = {visible!r} shows {len(shown)} GPUs, counted"
            f" from 0, and so no GPU {hidden[0]}"
        )
    return visible_gpus(launch, environment) or ()


def device_of(launch: LaunchSettings, environment: Mapping[str, str] = os.environ) -> Device:
    """Returns what the stages of a run compute on."""
    if launch.device == "cpu" or environment.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return "cpu"
    if has_nvidia_device():
        return "cuda"
    return "rocm" if Path("/dev/kfd").exists() else "cpu"
