"""Makes the app's themes of the theme files; one that is wrong is told and left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halos_backend.errors import HalosError
from textual.color import Color, ColorParseError
from textual.theme import Theme

from halos_tui.formatting import visible
from halos_tui.theme import read_theme, theme_files

COLOURS = (
    "primary",
    "secondary",
    "accent",
    "success",
    "warning",
    "error",
    "foreground",
    "background",
    "surface",
    "panel",
)
ANSI_VARIABLES = {
    "ansi-background": "ansi_default",  # Textual 8.2.8 gives these two to all but ANSI themes,
    "ansi-foreground": "ansi_default",  # and then looks for them
    "block-cursor-foreground": "ansi_default",
    "block-cursor-background": "ansi_default",
    "block-cursor-text-style": "reverse",
    "block-cursor-blurred-text-style": "underline",
    "border-blurred": "ansi_default",
    "input-cursor-text-style": "reverse",
}
"""Nothing is known of the terminal's own colours, so what stands out is reversed."""
MONOCHROME = "monochrome"
"""What NO_COLOR takes instead of any theme: what a colour would say, an attribute says."""


def app_theme(path: Path) -> Theme:
    """The theme of a file, for the app. Raises HalosError naming file and fault."""
    table = read_theme(path).get("app")
    if not isinstance(table, dict):
        raise HalosError(f"{path}: has no table [app] with {', '.join(COLOURS)}")
    colours: dict[str, Any] = {}
    for name in COLOURS:
        value = table.get(name)
        try:
            Color.parse(str(value))
        except ColorParseError as error:
            raise HalosError(
                f"{path}: app.{name} = '{visible(str(value))}' is no colour; write one like"
                ' "#7aa2f7", "red" or "ansi_red"'
            ) from error
        colours[name] = str(value)
    theme = Theme(name=path.stem, dark=bool(table.get("dark", True)), **colours)
    if table.get("ansi", False):
        theme.ansi = True
        theme.variables = dict(ANSI_VARIABLES)
    return theme


def monochrome_theme() -> Theme:
    """The terminal's own two colours, reversed where something stands out."""
    plain = "ansi_default"
    return Theme(
        name=MONOCHROME,
        ansi=True,
        **dict.fromkeys(COLOURS, plain),  # type: ignore[arg-type] # they are all texts
        variables={**ANSI_VARIABLES, "button-focus-text-style": "bold reverse"},
    )


def load_app_themes() -> tuple[dict[str, Theme], list[str]]:
    """All themes by their names, and what is wrong with those that are left out."""
    themes, problems = {}, []
    for name, path in theme_files().items():
        try:
            themes[name] = app_theme(path)
        except HalosError as error:
            problems.append(str(error))
    return themes, problems
