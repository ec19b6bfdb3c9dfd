"""Says which code a run goes on with, and what of it changed since it went on last."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import halos_backend

PACKAGES = ("halos-tui", "torch", "transformers", "accelerate", "peft", "vllm")
SOURCES = Path(halos_backend.__file__).parent
SHORT = 12
"""Digits of a digest that a person compares."""


def code_versions() -> dict[str, str]:
    """Versions of Python and of the packages that compute, imported or not; absent ones left out.

    `halos_backend` is a digest of its sources: an editable install keeps its version number.
    """
    return dict(_code_versions())


def changed_versions(
    before: Mapping[str, str], now: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """What differs, as {package: (before, now)}; `none` is a package that is not there.

    Nothing where it is not known what was there before.
    """
    if not before:
        return {}
    names = dict.fromkeys((*before, *now))
    pairs = {name: (before.get(name, "none"), now.get(name, "none")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def source_digest(folder: Path) -> str:
    """Of every Python file below `folder`: its name and its bytes."""
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
