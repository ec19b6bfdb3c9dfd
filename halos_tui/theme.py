"""Reads themes: what colour each meaning has, as rich styles and as themes of the app.

Themes are TOML files under `themes/`, and in the user's configuration directory. A wrong one is
reported and left out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import platformdirs
from halos_backend.errors import HalosError, UsageError
from rich.errors import StyleSyntaxError
from rich.style import Style
from rich.theme import Theme
from textual.color import Color, ColorParseError
from textual.theme import Theme as AppTheme

from halos_tui.formatting import visible

DEFAULT_THEME = "dark"
MEANINGS = ("accent", "good", "bad", "warning", "muted")
PLACES = (Path(__file__).parent / "themes", Path(__file__).parents[1] / "themes")
"""Themes are here in an installed wheel, and there in a source tree."""

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
    "ansi-foreground": "ansi_default",  # and then searches for them
    "block-cursor-foreground": "ansi_default",
    "block-cursor-background": "ansi_default",
    "block-cursor-text-style": "reverse",
    "block-cursor-blurred-text-style": "underline",
    "border": "ansi_default",
    "border-blurred": "ansi_default",
    "input-cursor-text-style": "reverse",
    **dict.fromkeys(
        (
            "scrollbar",
            "scrollbar-hover",
            "scrollbar-active",
            "scrollbar-background",
            "scrollbar-background-hover",
            "scrollbar-background-active",
        ),
        "ansi_default",
    ),
}
"""Nothing is known of the terminal's own colours, so what stands out is reversed."""
READABLE = 4.5
"""WCAG 2.2, 1.4.3: contrast of text to its background."""
TERMINAL = "terminal"
"""This theme has the background that the terminal says it has."""
MONOCHROME = "monochrome"
"""NO_COLOR takes this instead of any theme: what a colour would say, an attribute says."""


def load_theme(name: str = DEFAULT_THEME) -> Theme:
    """Returns the theme of that name as rich styles. Raises HalosError naming file and fault."""
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
    """Returns the theme's file. Raises UsageError where there is none of that name."""
    found = theme_files()
    if name not in found:
        raise UsageError(f"no theme '{name}'; there are {', '.join(sorted(found))}")
    return found[name]


def theme_files() -> dict[str, Path]:
    """Returns every theme by its name; one of the user's own replaces ours of the same name."""
    files: dict[str, Path] = {}
    for place in (*reversed(PLACES), platformdirs.user_config_path("halos-tui") / "themes"):
        if place.is_dir():
            files |= {path.stem: path for path in sorted(place.glob("*.toml"))}
    return files


def read_theme(path: Path) -> dict[str, Any]:
    """Returns the file as it is. Raises HalosError where that is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HalosError(f"{path}: cannot be read as a theme ({visible(str(error))})") from error


def app_theme(path: Path) -> AppTheme:
    """Returns the theme of a file, for the app. Raises HalosError naming file and fault."""
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
    theme = AppTheme(name=path.stem, dark=bool(table.get("dark", True)), **colours)
    theme.variables = _variables(colours)
    if table.get("ansi", False):
        theme.ansi = True
        theme.variables = ANSI_VARIABLES | {"border": colours["accent"]}
    return theme


def _variables(colours: Mapping[str, str]) -> dict[str, str]:
    """Returns what Textual works out otherwise: its 30 percent leave too little contrast to the
    explanations in the palette, and its quiet borders are those of no panel.
    """
    return {
        "block-cursor-blurred-background": f"{colours['primary']} 14%",
        "border": colours["accent"],
        "border-blurred": f"{colours['foreground']} 30%",
    }


def monochrome_theme() -> AppTheme:
    """Returns the terminal's own two colours, reversed where something stands out."""
    plain = "ansi_default"
    return AppTheme(
        name=MONOCHROME,
        ansi=True,
        **dict.fromkeys(COLOURS, plain),  # type: ignore[arg-type] # they are all texts
        variables={**ANSI_VARIABLES, "button-focus-text-style": "bold reverse"},
    )


def theme_on(background: Color, themes: Mapping[str, AppTheme]) -> AppTheme | None:
    """Returns our dark or light theme on that background, its colours paler or deeper where they
    could not be read on it; None where no text could, as on a middle grey.
    """
    base = themes.get("dark" if background.brightness < 0.5 else "light")
    if base is None or base.ansi:
        return None
    far = Color(255, 255, 255) if base.dark else Color(0, 0, 0)
    grounds = {
        "background": background,
        "surface": background.blend(far, 0.03),
        "panel": background.blend(far, 0.1),
    }
    colours = {name: Color.parse(getattr(base, name)) for name in COLOURS if name not in grounds}
    for name, colour in colours.items():
        steps = (colour.blend(far, step / 10) for step in range(11))
        readable = (one for one in steps if _is_readable(one, grounds.values()))
        colours[name] = next(readable, background)
    muted = next((one for one in range(60, 100, 5) if _is_muted_well(one, grounds.values())), 0)
    if not (muted and all(_is_readable(one, grounds.values()) for one in colours.values())):
        return None
    return AppTheme(
        name=TERMINAL,
        dark=base.dark,
        variables=_variables({name: colour.hex for name, colour in colours.items()})
        | {"text-muted": f"auto {muted}%"},
        **{name: colour.hex for name, colour in (colours | grounds).items()},  # type: ignore[arg-type]
    )


def _is_muted_well(percent: int, grounds: Iterable[Color]) -> bool:
    """Says whether so much of black or white, whichever Textual takes on a ground, can be read."""
    return all(
        _is_readable(ground.blend(ground.get_contrast_text(1.0), percent / 100), [ground])
        for ground in grounds
    )


def _is_readable(colour: Color, grounds: Iterable[Color]) -> bool:
    return all(_contrast(colour, ground) >= READABLE for ground in grounds)


def _contrast(first: Color, second: Color) -> float:
    """WCAG 2.2: (L1 + 0.05) / (L2 + 0.05) of the relative luminances."""
    low, high = sorted(map(_luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: Color) -> float:
    parts = (part / 255 for part in colour.rgb)
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def load_app_themes() -> tuple[dict[str, AppTheme], list[str]]:
    """Returns all themes by their names, and what is wrong with those that are left out."""
    themes, problems = {}, []
    for name, path in theme_files().items():
        try:
            themes[name] = app_theme(path)
        except HalosError as error:
            problems.append(str(error))
    return themes, problems
