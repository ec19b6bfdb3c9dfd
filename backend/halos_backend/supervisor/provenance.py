"""Finds out what changed since a run was created or went on last: its inputs, and the code.

Prompts, policy and reference must stay what they were: with others it would be another run. A
changed judge is announced only: who mends a judge between rounds means to go on with it.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path

import halos_backend
from halos_backend.config.schema import FunctionJudge, RewardModelJudge, RunSettings
from halos_backend.findings import InputFile
from halos_backend.store.input_files import look_again, read_inputs, write_inputs
from halos_backend.store.manifest import sha256_of
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState

JUDGES = ("label.judge.function", "label.judge.path")
FROZEN = ("prompts.jsonl", "held_out.jsonl")
SHORT = 12
"""Is the number of digits of a digest that a person compares."""

PACKAGES = ("halos-tui", "torch", "transformers", "accelerate", "peft", "vllm")
SOURCES = Path(halos_backend.__file__).parent


@dataclass(frozen=True)
class InputChanges:
    """Holds what changed of the inputs.

    `refused` has a sentence for each input that must not have changed; `announced` maps those that
    may to their digest before and now, once for each change.
    """

    refused: tuple[str, ...] = ()
    announced: dict[str, tuple[str, str]] = field(default_factory=dict)


def changed_inputs(run_dir: RunDir, state: RunState, settings: RunSettings) -> InputChanges:
    """Compares the run's input files with what was noted at its creation.

    What looks touched is read as a whole, which takes a second for some gigabytes, and noted anew
    where it is the same or may change.
    """
    noted = read_inputs(run_dir)
    if not noted:
        return InputChanges(_changed_prompts(run_dir, state))
    refused: list[str] = []
    announced: dict[str, tuple[str, str]] = {}
    fresh = list(noted)
    for index, file in enumerate(noted):
        if not _is_in_use(file, settings):
            continue
        try:
            now = look_again(file, run_dir)
        except OSError as error:
            refused.append(f"{_name(file, run_dir)} is gone: {error.strerror}")
            continue
        if now.sha256 == file.sha256:
            fresh[index] = now
        elif file.what in JUDGES:
            fresh[index] = now
            announced[file.path] = (file.sha256[:SHORT], now.sha256[:SHORT])
        else:
            refused.append(_why_changed(file, now, run_dir))
    if fresh != noted:
        write_inputs(run_dir, fresh)
    return InputChanges(tuple(refused), announced)


def refusal(refused: tuple[str, ...], run_dir: RunDir) -> str:
    """Says why the run does not go on, and what its owner can do."""
    return (
        f"{'; '.join(refused)}: put the file back as it was when {run_dir.name} was created, or"
        " start a new run"
    )


def _changed_prompts(run_dir: RunDir, state: RunState) -> tuple[str, ...]:
    """Compares prompts for a run of an earlier version, whose journal has their digest and nothing
    else.
    """
    if not run_dir.prepared.exists():
        return ()
    try:
        now = sha256_of(run_dir.prompts)
    except OSError as error:
        return (f"{run_dir.prompts} is gone: {error.strerror}",)
    return () if now == state.prompts_sha256 else (f"{run_dir.prompts} changed",)


def _is_in_use(file: InputFile, settings: RunSettings) -> bool:
    """Says whether the settings use the file: they may name another judge or reference than was
    noted.
    """
    judge = settings.label.judge
    match file.what:
        case "label.judge.function":
            return isinstance(judge, FunctionJudge) and _is_in(
                file, Path(judge.function.rpartition(":")[0]).parent
            )
        case "label.judge.path":
            return isinstance(judge, RewardModelJudge) and _is_of_model(file, judge.path)
        case "train.reference":
            return _is_of_model(file, settings.train.reference)
        case _:
            return True


def _is_of_model(file: InputFile, model: str) -> bool:
    """Says whether a file is of the model: in a directory, or in the hub's cache under the
    repository's name.
    """
    return _is_in(file, Path(model)) or f"/models--{model.replace('/', '--')}/" in file.path


def _is_in(file: InputFile, folder: Path) -> bool:
    return Path(file.path).is_relative_to(folder.absolute())


def _why_changed(file: InputFile, now: InputFile, run_dir: RunDir) -> str:
    sizes = f" ({now.bytes} bytes, not {file.bytes})" if now.bytes != file.bytes else ""
    return f"{_name(file, run_dir)} changed{sizes}"


def _name(file: InputFile, run_dir: RunDir) -> str:
    path = run_dir.path / file.path
    return str(path) if file.what in FROZEN else f"{file.what}: {path}"


def code_versions() -> dict[str, str]:
    """Returns versions of Python and of the packages that compute, imported or not; absent ones are
    left out.

    `halos_backend` is a digest of its sources: an editable install keeps its version number.
    """
    return dict(_code_versions())


def changed_versions(
    before: Mapping[str, str], now: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Returns what differs, as {package: (before, now)}; `none` is a package that is not there.

    It is empty where nobody knows what was there before.
    """
    if not before:
        return {}
    names = dict.fromkeys((*before, *now))
    pairs = {name: (before.get(name, "none"), now.get(name, "none")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def source_digest(folder: Path) -> str:
    """Digests every Python file below `folder`: its name and its bytes."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:SHORT]


@cache
def _code_versions() -> Mapping[str, str]:
    found = {"python": platform.python_version(), "halos_backend": source_digest(SOURCES)}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
