"""Reads a theme: what colour each meaning has. Themes are TOML files under `themes/`, and in the
user's configuration directory.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import platformdirs
from halos_backend.errors import HalosError, UsageError
from rich.errors import StyleSyntaxError
from rich.style import Style
from rich.theme import Theme

from halos_tui.formatting import visible

DEFAULT_THEME = "dark"
MEANINGS = ("accent", "good", "bad", "warning", "muted")
PLACES = (Path(__file__).parent / "themes", Path(__file__).parents[1] / "themes")
"""In an installed wheel, and in a source tree."""


def load_theme(name: str = DEFAULT_THEME) -> Theme:
    """The theme of that name as rich styles. Raises HalosError naming file and fault."""
    path = find_theme(name)
    try:
        colours = read_theme(path)["colours"]
        return Theme({meaning: Style.parse(str(colours[meaning])) for meaning in MEANINGS})
    except (KeyError, TypeError, StyleSyntaxError) as error:
        raise HalosError(
            f"{path}: is no theme ({visible(str(error))}); under [colours] it needs"
            f" {', '.join(MEANINGS)}"
        ) from error


def find_theme(name: str) -> Path:
    """The theme's file. Raises UsageError where there is none of that name."""
    found = theme_files()
    if name not in found:
        raise UsageError(f"no theme '{name}'; there are {', '.join(sorted(found))}")
    return found[name]


def theme_files() -> dict[str, Path]:
    """Every theme by its name; one of the user's own stands for ours of the same name."""
    files: dict[str, Path] = {}
    for place in (*reversed(PLACES), platformdirs.user_config_path("halos-tui") / "themes"):
        if place.is_dir():
            files |= {path.stem: path for path in sorted(place.glob("*.toml"))}
    return files


def read_theme(path: Path) -> dict[str, Any]:
    """The file as it is. Raises HalosError where that is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HalosError(f"{path}: cannot be read as a theme ({visible(str(error))})") from error
