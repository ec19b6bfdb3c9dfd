"""Examines GPUs through NVIDIA's management library, where it and a driver are there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

from halos_backend.config.schema import LaunchSettings
from halos_backend.findings import Finding, in_gib
from halos_backend.interpreters.device import shown_gpus, visible_gpus
from halos_backend.telemetry.devices import select_gpus
from halos_backend.telemetry.gpu import as_text, load_nvml
from halos_backend.telemetry.reading import GpuReading

FREE_SHARE_OF_IDLE_GPU = 0.9


def gpu_memory_bytes(
    launch: LaunchSettings,
    load: Callable[[], Any] = load_nvml,
    *,
    environment: Mapping[str, str] = os.environ,
) -> int | None:
    """Returns the memory of the smallest GPU that the run takes; None without one.

    A part of a GPU (MIG-...) counts as the whole: then the smallest of the machine is taken.
    """
    nvml = load()
    if nvml is None:
        return None
    try:
        gpus = [_read(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError:
        return None
    finally:
        nvml.nvmlShutdown()
    names = visible_gpus(launch, environment)
    if names is not None and not any(name.startswith("MIG-") for name in names):
        gpus = list(select_gpus(gpus, None, visible=",".join(names)))
    return min((gpu.memory_total_bytes or 0 for gpu in gpus), default=None)


def examine_devices(
    launch: LaunchSettings,
    load: Callable[[], Any] = load_nvml,
    *,
    environment: Mapping[str, str] = os.environ,
) -> Finding:
    """Examines whether the GPUs of `launch.devices` are there."""
    if launch.devices is None:
        return Finding("ok", "devices", "the run takes the GPUs there are, and reserves none")
    nvml = load()
    if nvml is None:
        fix = "take launch.devices out where there is no NVIDIA GPU"
        return Finding("warning", "devices", "launch.devices names GPUs, and none is found", fix)
    try:
        shown = shown_gpus(environment)
        count = int(nvml.nvmlDeviceGetCount()) if shown is None else len(shown)
    except nvml.NVMLError as error:
        return Finding("warning", "devices", f"the driver does not answer: {error}", "nvidia-smi")
    finally:
        nvml.nvmlShutdown()
    missing = [number for number in launch.devices if number >= count]
    text = f"launch.devices = {list(launch.devices)}, and there are {count}, counted from 0"
    if missing:
        return Finding("problem", "devices", text, f"name GPUs from 0 to {count - 1}")
    return Finding("ok", "devices", text)


def examine_gpus(
    load: Callable[[], Any] = load_nvml, version: Callable[[str], str] = metadata.version
) -> list[Finding]:
    """Examines each GPU with its memory, the driver, and whether torch is built for GPUs at all."""
    nvml = load()
    if nvml is None:
        return [Finding("ok", "gpu", "no NVIDIA GPU found: stages run on the CPU")]
    try:
        count = nvml.nvmlDeviceGetCount()
        found = [_examine_gpu(nvml, index) for index in range(count)]
        driver = as_text(nvml.nvmlSystemGetDriverVersion())
    except nvml.NVMLError as error:
        return [Finding("warning", "gpu", f"the driver does not answer: {error}", "try nvidia-smi")]
    finally:
        nvml.nvmlShutdown()
    return [*found, Finding("ok", "gpu driver", driver), *_examine_torch(count, version)]


def _read(nvml: Any, index: int) -> GpuReading:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    return GpuReading(
        index=index,
        uuid=as_text(nvml.nvmlDeviceGetUUID(handle)),
        memory_total_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
    )


def _examine_gpu(nvml: Any, index: int) -> Finding:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    name = as_text(nvml.nvmlDeviceGetName(handle))
    text = f"{index}: {name}, {in_gib(memory.free)} free of {in_gib(memory.total)}"
    if memory.free < FREE_SHARE_OF_IDLE_GPU * memory.total:
        return Finding("warning", "gpu", text, "nvidia-smi shows who holds the rest")
    return Finding("ok", "gpu", text)


def _examine_torch(num_gpus: int, version: Callable[[str], str]) -> list[Finding]:
    """Reads torch's build from the version's local part; importing torch would take seconds."""
    try:
        found = version("torch")
    except metadata.PackageNotFoundError:
        return []
    if num_gpus and found.endswith("+cpu"):
        return [
            Finding(
                "problem",
                "gpu",
                f"torch {found} is built for the CPU, so the GPUs would stay idle",
                f"pip install --force-reinstall torch=={found.removesuffix('+cpu')}",
            )
        ]
    return []
