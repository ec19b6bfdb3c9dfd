"""Reads the presets: settings known from elsewhere, one TOML file each under `presets/`."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

from halos_backend.errors import UsageError

PRESETS_DIR = Path(__file__).parent / "presets"


def preset_names() -> tuple[str, ...]:
    """Every preset, sorted."""
    return tuple(sorted(path.stem for path in PRESETS_DIR.glob("*.toml")))


def preset_settings(name: str) -> dict[str, Any]:
    """A preset's tables; what it leaves to the person is not in them. Raises UsageError."""
    return tomllib.loads(_preset_text(name))


def preset_notes(name: str) -> str:
    """The comment a preset begins with: where its values are from. Raises UsageError."""
    lines = _preset_text(name).splitlines()
    end = next(index for index, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(lines[:end])


def _preset_text(name: str) -> str:
    names = preset_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        meant = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(names)}"
        raise UsageError(f"no preset '{name}'; {meant}")
    return (PRESETS_DIR / f"{name}.toml").read_text(encoding="utf-8")
