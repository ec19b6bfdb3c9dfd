"""Reads a theme: what colour each meaning has. Themes are TOML files under `themes/`."""

from __future__ import annotations

import tomllib
from pathlib import Path

from halos_backend.errors import HalosError, UsageError
from rich.errors import StyleSyntaxError
from rich.style import Style
from rich.theme import Theme

from halos_tui.formatting import visible

MEANINGS = ("accent", "good", "bad", "warning", "muted")
PLACES = (Path(__file__).parent / "themes", Path(__file__).parents[1] / "themes")
"""In an installed wheel, and in a source tree."""


def load_theme(name: str = "dark") -> Theme:
    """The theme of that name as rich styles. Raises HalosError naming file and fault."""
    path = find_theme(name)
    try:
        colours = tomllib.loads(path.read_text(encoding="utf-8"))["colours"]
        return Theme({meaning: Style.parse(str(colours[meaning])) for meaning in MEANINGS})
    except (KeyError, TypeError, ValueError, StyleSyntaxError) as error:
        raise HalosError(
            f"{path}: is no theme ({visible(str(error))}); under [colours] it needs"
            f" {', '.join(MEANINGS)}"
        ) from error


def find_theme(name: str) -> Path:
    """The theme's file. Raises UsageError where there is none of that name."""
    for place in PLACES:
        if (path := place / f"{name}.toml").is_file():
            return path
    raise UsageError(f"no theme '{name}' in {' or '.join(str(place) for place in PLACES)}")
