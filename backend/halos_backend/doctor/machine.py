"""Examines the machine: Python, packages, GPUs, cores, memory, limits, and log-out rules.

`disk` examines the disk and file system of the runs directory. Whether a run would survive its
owner's log-out is read from systemd-logind's settings.
"""

from __future__ import annotations

import os
import platform
import pwd
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from halos_backend.config.load import usable_cores
from halos_backend.doctor.disk import examine_runs_root
from halos_backend.doctor.gpu import examine_gpus
from halos_backend.findings import GIB, MIB, Finding, in_gib

DISTRIBUTION = "halos-tui"
MIN_PYTHON = (3, 11)
MIN_OPEN_FILES = 1024
MIN_MEMORY_BYTES = 2 * GIB
MIN_SHM_BYTES = 256 * MIB
"""Is the least shared memory: containers come with 64 MiB, in which collectives between
GPUs fail.
"""

CONFIG_DIRS = ("usr/lib/systemd", "run/systemd", "etc/systemd")
"""Lists where systemd's settings lie; later ones win, as in systemd itself."""
LOGINCTL_TIMEOUT_S = 2.0


def examine_machine(runs_root: Path) -> list[Finding]:
    """Examines everything about this machine that a run depends on. Changes nothing on it."""
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
    """Compares installed versions with those that our own distribution asks for."""
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


def examine_logout(
    root: Path = Path("/"), lingering: Callable[[str], bool | None] | None = None
) -> Finding:
    """Examines log-out: `root` is where `etc` is; `lingering` says whether a user's processes
    outlive it.
    """
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in containers
        return Finding("ok", "log-out", f"the user {os.getuid()} has no account to log out of")
    value, users = read_kill_user_processes(root, user)
    if value is None:
        return Finding("ok", "log-out", "no rule of logind ends processes at log-out")
    if not value or not users:
        return Finding("ok", "log-out", "logind leaves processes alone at log-out")
    if (lingering or is_lingering)(user):
        return Finding("ok", "log-out", "logind ends processes at log-out, but this user lingers")
    return Finding(
        "warning",
        "log-out",
        "logind is set to end a user's processes at log-out (KillUserProcesses), runs too",
        "loginctl enable-linger",
    )


def read_kill_user_processes(root: Path, user: str) -> tuple[bool | None, bool]:
    """Returns (KillUserProcesses, or None where no file sets it; whether it concerns `user`)."""
    settings: dict[str, str] = {}
    for path in _config_files(root):
        settings |= _read_login_section(path)
    value = settings.get("KillUserProcesses")
    if value is None:
        return None, True
    only = settings.get("KillOnlyUsers", "").split()
    excluded = settings.get("KillExcludeUsers", "root").split()
    concerned = user not in excluded and (not only or user in only)
    return value.lower() in ("yes", "true", "1", "on"), concerned


def is_lingering(user: str) -> bool | None:
    """Says whether logind keeps the user's processes; None where it cannot be asked."""
    if shutil.which("loginctl") is None:
        return None
    try:
        shown = subprocess.run(
            ["loginctl", "show-user", user, "--property=Linger", "--value"],
            capture_output=True,
            text=True,
            timeout=LOGINCTL_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return shown.stdout.strip() == "yes"


def _config_files(root: Path) -> list[Path]:
    """Lists the main files, then the drop-ins in the order of their names."""
    main = [root / folder / "logind.conf" for folder in CONFIG_DIRS]
    drop_ins: dict[str, Path] = {}
    for folder in CONFIG_DIRS:
        for path in (root / folder / "logind.conf.d").glob("*.conf"):
            drop_ins[path.name] = path
    return [*main, *(drop_ins[name] for name in sorted(drop_ins))]


def _read_login_section(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    settings, section = {}, ""
    for line in map(str.strip, lines):
        if line.startswith("["):
            section = line
        elif section == "[Login]" and "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            settings[key.strip()] = value.strip()
    return settings
