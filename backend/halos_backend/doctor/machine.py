"""Examines the machine: Python, packages, GPUs, cores, memory, limits, and log-out rules.

The disk and file system of the runs directory are `disk`'s.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from halos_backend.config.load import usable_cores
from halos_backend.doctor.disk import examine_runs_root
from halos_backend.doctor.gpu import examine_gpus
from halos_backend.doctor.logout import examine_logout
from halos_backend.findings import GIB, MIB, Finding, in_gib

DISTRIBUTION = "halos-tui"
MIN_PYTHON = (3, 11)
MIN_OPEN_FILES = 1024
MIN_MEMORY_BYTES = 2 * GIB
MIN_SHM_BYTES = 256 * MIB
"""Containers come with 64 MiB, in which collectives between several GPUs fail."""


def examine_machine(runs_root: Path) -> list[Finding]:
    """Everything about this machine that a run depends on. Changes nothing on it."""
    return [
        examine_python(sys.version_info[:2]),
        *examine_packages(),
        *examine_gpus(),
        examine_cores(),
        examine_memory(psutil.virtual_memory().total, psutil.virtual_memory().available),
        *examine_runs_root(runs_root),
        examine_shm(Path("/dev/shm")),
        examine_logout(),
        examine_open_files(*resource.getrlimit(resource.RLIMIT_NOFILE)),
    ]


def examine_python(version: tuple[int, int]) -> Finding:
    text = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    if version < MIN_PYTHON:
        return Finding(
            "problem",
            "python",
            f"Python {version[0]}.{version[1]} is too old",
            f"set up with Python {MIN_PYTHON[0]}.{MIN_PYTHON[1]} or newer",
        )
    return Finding("ok", "python", text)


def examine_packages(
    requirements: Callable[[], list[str] | None] = lambda: metadata.requires(DISTRIBUTION),
    version: Callable[[str], str] = metadata.version,
) -> list[Finding]:
    """Installed versions against those that our own distribution asks for."""
    try:
        needed = [Requirement(text) for text in requirements() or ()]
    except metadata.PackageNotFoundError:
        return [
            Finding(
                "warning",
                "packages",
                f"{DISTRIBUTION} runs from its source tree, so its requirements are not known",
                "install it: pip install -e . -c constraints.txt",
            )
        ]
    needed = [entry for entry in needed if entry.marker is None or entry.marker.evaluate()]
    wrong = [finding for entry in needed for finding in _examine_package(entry, version)]
    if wrong:
        return wrong
    shown = ", ".join(f"{entry.name} {version(entry.name)}" for entry in needed)
    return [Finding("ok", "packages", shown)]


def examine_cores() -> Finding:
    threads = len(os.sched_getaffinity(0))
    cores = usable_cores()
    load = os.getloadavg()[0]
    text = f"{cores} cores ({threads} threads) for this process, load {load:.1f}"
    if load > cores:
        return Finding(
            "warning",
            "cores",
            f"{text}: others keep them busy",
            "torch slows down a lot on shared cores: set launch.num_threads to what is idle",
        )
    return Finding("ok", "cores", text)


def examine_memory(total: int, available: int) -> Finding:
    text = f"{in_gib(available)} available of {in_gib(total)}"
    if available < MIN_MEMORY_BYTES:
        return Finding("warning", "memory", text, "end what else uses memory before a run")
    return Finding("ok", "memory", text)


def examine_shm(path: Path) -> Finding:
    try:
        size = shutil.disk_usage(path).total
    except OSError:
        return Finding(
            "warning", "shared memory", f"no {path}", "runs on several processes need it: mount it"
        )
    if size < MIN_SHM_BYTES:
        return Finding(
            "warning",
            "shared memory",
            f"{path} has {in_gib(size)}: too little for several processes with GPUs",
            "in a container: docker run --shm-size=8g",
        )
    return Finding("ok", "shared memory", f"{path} has {in_gib(size)}")


def examine_open_files(soft: int, hard: int) -> Finding:
    if soft != resource.RLIM_INFINITY and soft < MIN_OPEN_FILES:
        most = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
        return Finding(
            "warning",
            "open files",
            f"at most {soft} (the limit can be raised to {most})",
            f"ulimit -n {MIN_OPEN_FILES if most == 'unlimited' else min(4096, hard)}",
        )
    shown = "unlimited" if soft == resource.RLIM_INFINITY else f"at most {soft}"
    return Finding("ok", "open files", shown)


def _examine_package(needed: Requirement, version: Callable[[str], str]) -> Iterator[Finding]:
    try:
        found = version(needed.name)
    except metadata.PackageNotFoundError:
        yield Finding(
            "problem",
            "packages",
            f"{needed.name} is not installed",
            f"pip install '{needed.name}{needed.specifier}'",
        )
        return
    if not needed.specifier.contains(found, prereleases=True):
        yield Finding(
            "problem",
            "packages",
            f"{needed.name} {found} is not {needed.specifier}",
            f"pip install '{needed.name}{needed.specifier}'",
        )
