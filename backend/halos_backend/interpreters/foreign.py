"""Examines an interpreter that is not ours: what it has of what our code needs."""

from __future__ import annotations

import subprocess
import sys

import msgspec
from packaging.specifiers import SpecifierSet

from halos_backend.errors import UsageError
from halos_backend.interpreters.probe import look_for
from halos_backend.interpreters.programs import PACKAGE, program_environment

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
"""Names what the sample and label stages import, in the versions that our own distribution asks
for.
"""


class Interpreter(msgspec.Struct, frozen=True):
    """Says what an interpreter has: its version, and those of the distributions that were looked
    for.
    """

    python: tuple[int, int, int]
    packages: dict[str, str]


def examine_interpreter(program: str | None = None, *, setting: str = "") -> Interpreter:
    """Returns what `program`, or our own interpreter, has. Raises UsageError where it does not run.

    `setting` is the one that names the program.
    """
    if program is None:
        return Interpreter(sys.version_info[:3], look_for(REQUIREMENTS))
    try:
        done = subprocess.run(
            [program, str(PROBE), *REQUIREMENTS],
            env=program_environment(python=program),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=True,
        )
        return msgspec.json.decode(done.stdout, type=Interpreter)
    except FileNotFoundError as error:
        raise UsageError(
            f"{setting} = '{program}': there is no such program",
            fix="name the python of an environment, for example /path/to/.venv/bin/python",
        ) from error
    except OSError as error:
        raise UsageError(f"{setting} = '{program}': {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"{setting} = '{program}' did not answer within {PROBE_TIMEOUT_S:.0f} s",
            fix="is it a Python interpreter?",
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
            f"{setting} = '{program}' lacks what our stages import: {', '.join(wanted)}",
            fix=f"{program} -m pip install {quoted}",
        )


def _satisfies(version: str | None, specifier: str) -> bool:
    return version is not None and SpecifierSet(specifier).contains(version, prereleases=True)
