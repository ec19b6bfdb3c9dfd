"""Owns how a program of ours starts: its command line and its environment, whoever starts it.

No program looks for modules in its working directory, which may hold a `torch.py` or a `random.py`
of somebody else's; that directory is the one it works on: a run's, or an attempt's. What a run's
check starts and what its stages start therefore find the same things.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import halos_backend
from halos_backend.interpreters.device import device_names, has_nvidia_device
from halos_backend.store.run_dir import cache_root

if TYPE_CHECKING:
    from halos_backend.config.schema import (
        LaunchSettings,  # pydantic: 0.1 s of verbs and completion
    )

PACKAGE = Path(halos_backend.__file__).resolve().parent
BOOTSTRAP = PACKAGE / "interpreters" / "bootstrap.py"

ATTEMPT_TAG = "HALOS_ATTEMPT_DIR"
"""Is in the environment of every process of a stage, so that the whole tree can be found."""

SAFE_PATH = "PYTHONSAFEPATH"
"""Replaces the interpreter's -P, so that launchers and engines pass it on to their processes."""

KEEPING_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
"""Keeps glibc from giving each large tensor on a CPU back to the kernel as it is freed.

Its pages would be faulted in again for the next one, which is a tenth of a training step.
"""

FOLDERS = (
    *("HALOS_CACHE_DIR", "HALOS_RUNS_DIR", "HALOS_RUNTIME_DIR"),
    *("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_MODULES_CACHE"),
)
"""Lists variables that name one folder, which a relative path would make another one in each
program.
"""


def program(module: str, *arguments: str | Path | int) -> list[str]:
    """Returns the command line of a module of ours in our own interpreter."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def in_interpreter(command: Sequence[str], python: str | None) -> list[str]:
    """Returns the command of a `program` under another interpreter; None is our own."""
    if python is None or list(command[:2]) != [sys.executable, "-m"]:
        return list(command)
    return [python, str(BOOTSTRAP), *command[2:]]


def program_environment(
    environment: Mapping[str, str] = os.environ, *, python: str | None = None
) -> dict[str, str]:
    """Returns the environment of a program of ours, wherever it works.

    Under another interpreter, `python`, it finds `halos_backend` and nothing else of ours: packages
    of two environments do not mix.
    """
    made = {**environment, SAFE_PATH: "1"}
    for name in FOLDERS:
        if (folder := made.get(name)) and not folder.startswith("~"):
            made[name] = str(Path(folder).resolve())
    if python is not None:
        made.pop("PYTHONHOME", None)
        made["PYTHONPATH"] = str(importable_folder())
    elif paths := made.get("PYTHONPATH"):
        made["PYTHONPATH"] = os.pathsep.join(
            str(Path(path).resolve()) for path in paths.split(os.pathsep) if path
        )
    return made


def stage_environment(
    attempt_dir: Path,
    launch: LaunchSettings,
    environment: Mapping[str, str] = os.environ,
    *,
    python: str | None = None,
) -> dict[str, str]:
    """Returns what a stage must not guess, too: its devices, and the directory that is its tree's
    tag.
    """
    made = {
        **program_environment(environment, python=python),
        ATTEMPT_TAG: str(attempt_dir),
        "PYTHONUNBUFFERED": "1",
        # torch elastic would take SIGHUP for a reason to stop; a closed terminal is no reason
        "TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT,SIGQUIT",
    }
    if launch.device == "cpu" or not has_nvidia_device():
        made = {**KEEPING_MEMORY, **made, "ACCELERATE_USE_CPU": "true"}
    if launch.devices is not None:
        if "CUDA_VISIBLE_DEVICES" not in environment:
            made["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the numbers are those of nvidia-smi
        made["CUDA_VISIBLE_DEVICES"] = ",".join(device_names(launch, environment))
    return made


def importable_folder() -> Path:
    """Returns a folder that holds `halos_backend`, as a link, and nothing else; made where it is
    not there.
    """
    digest = hashlib.sha256(str(PACKAGE).encode()).hexdigest()[:12]
    folder = cache_root().resolve() / "importable" / digest
    link = folder / PACKAGE.name
    if link.is_symlink() and link.resolve() == PACKAGE:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder.parent / f".{digest}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        unfinished.unlink()
    unfinished.symlink_to(PACKAGE)
    unfinished.replace(link)
    return folder
