"""Our code in an interpreter that is not ours: its command line, its environment, what it has."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from packaging.specifiers import SpecifierSet

import halos_backend
from halos_backend.errors import UsageError
from halos_backend.interpreters.probe import look_for
from halos_backend.store.run_dir import cache_root

PACKAGE = Path(halos_backend.__file__).resolve().parent
BOOTSTRAP = PACKAGE / "interpreters" / "bootstrap.py"
PROBE = PACKAGE / "interpreters" / "probe.py"
PROBE_TIMEOUT_S = 60.0
MIN_PYTHON = (3, 11)

REQUIREMENTS = {
    "msgspec": ">=0.19",
    "psutil": ">=6",
    "pydantic": ">=2.10",
    "torch": ">=2.6",
    "transformers": ">=5.0",
}
"""What the sample and label stages import, in the versions that our own distribution asks for."""


class Interpreter(msgspec.Struct, frozen=True):
    """What an interpreter has: its version, and those of the distributions that were looked for."""

    python: tuple[int, int, int]
    packages: dict[str, str]


def in_interpreter(command: Sequence[str], python: str | None) -> list[str]:
    """The command of a module of ours, `[sys.executable, "-m", MODULE, ...]`, under `python`.

    None is our own interpreter.
    """
    if python is None or list(command[:2]) != [sys.executable, "-m"]:
        return list(command)
    return [python, str(BOOTSTRAP), *command[2:]]


def foreign_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process of ours under another interpreter.

    It finds `halos_backend` and nothing else of ours: packages of two environments do not mix.
    """
    made = {name: value for name, value in environment.items() if name != "PYTHONHOME"}
    made["PYTHONPATH"] = str(importable_folder())
    return made


def importable_folder() -> Path:
    """A folder that holds `halos_backend`, as a link, and nothing else; made where it is not."""
    digest = hashlib.sha256(str(PACKAGE).encode()).hexdigest()[:12]
    folder = cache_root() / "importable" / digest
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


def examine_interpreter(program: str | None = None, *, setting: str = "") -> Interpreter:
    """What `program`, or our own interpreter, has. Raises UsageError where it does not run.

    `setting` is the one that names the program.
    """
    if program is None:
        return Interpreter(sys.version_info[:3], look_for(REQUIREMENTS))
    try:
        done = subprocess.run(
            [program, str(PROBE), *REQUIREMENTS],
            env=foreign_environment(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=True,
        )
        return msgspec.json.decode(done.stdout, type=Interpreter)
    except FileNotFoundError as error:
        raise UsageError(
            f"{setting} = '{program}': there is no such program; name the python of an"
            " environment, for example /path/to/.venv/bin/python"
        ) from error
    except OSError as error:
        raise UsageError(f"{setting} = '{program}': {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"{setting} = '{program}' did not answer within {PROBE_TIMEOUT_S:.0f} s; is it a"
            " Python interpreter?"
        ) from error
    except (subprocess.CalledProcessError, msgspec.DecodeError) as error:
        said = (getattr(error, "stderr", "") or "").strip().splitlines()
        reason = said[-1] if said else "it does not answer as one"
        raise UsageError(
            f"{setting} = '{program}' is no Python interpreter that works: {reason}"
        ) from error


def check_requirements(program: str, found: Interpreter, *, setting: str) -> None:
    """Raises UsageError where a stage of ours could not be imported there, with the fix.

    `setting` is the one that names the program.
    """
    if found.python[:2] < MIN_PYTHON:
        version = ".".join(map(str, found.python))
        raise UsageError(
            f"{setting} = '{program}' is Python {version}: our stages need"
            f" {'.'.join(map(str, MIN_PYTHON))} or newer"
        )
    wanted = [
        f"{name}{specifier}"
        for name, specifier in REQUIREMENTS.items()
        if not _satisfies(found.packages.get(name), specifier)
    ]
    if wanted:
        quoted = " ".join(f"'{requirement}'" for requirement in wanted)
        raise UsageError(
            f"{setting} = '{program}' lacks what our stages import:"
            f" {', '.join(wanted)}; {program} -m pip install {quoted}"
        )


def _satisfies(version: str | None, specifier: str) -> bool:
    return version is not None and SpecifierSet(specifier).contains(version, prereleases=True)
