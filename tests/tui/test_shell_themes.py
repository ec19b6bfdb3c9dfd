"""Themes, no colours, sixteen colours, ASCII alone: what really reaches the screen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest
from halos_backend.errors import HalosError
from rich.color import ColorSystem, ColorType
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.command import CommandPalette
from textual.theme import BUILTIN_THEMES, Theme

from halos_tui import theme
from halos_tui.app import HalosApp
from halos_tui.terminal.diff_output import look_of
from halos_tui.terminal.filters import AsciiOnly, NoColours, SixteenColours, in_ascii
from halos_tui.theme import app_theme, load_app_themes, theme_files
from tests.support.app_fixtures import drive, screen_text, until, until_shown
from tests.support.colours import SEEN_BY, Eyes, contrast, difference, lab
from tests.support.made_run import MadeRun
from tests.support.shell_fixtures import listed, shell

OURS = ("dark", "light", "high-contrast", "colour-blind", "ansi-16")
TRUECOLOUR = OURS[:4]
MEANT = ("accent", "success", "warning", "error", "primary", "secondary")
READABLE = 4.5
"""WCAG 2.2, 1.4.3."""
BLACK = Color(0, 0, 0)
ROW = re.compile(r"\| (?:theme and background|.* on `#)")
APP_LINES = """[colours]
accent = "cyan"
good = "green"
bad = "red"
warning = "yellow"
muted = "white"
[app]
primary = "#000001"
secondary = "#000002"
accent = "#000003"
success = "#000004"
warning = "#000005"
error = "#000006"
foreground = "#ffffff"
background = "#000008"
surface = "#000009"
panel = "#00000a"
"""


def write_theme(folder: Path, name: str, text: str) -> None:
    (folder / "themes").mkdir(parents=True, exist_ok=True)
    (folder / "themes" / f"{name}.toml").write_text(text)


def segments_of(app: HalosApp) -> Iterator[Segment]:
    """All that is on the screen, as it goes to the terminal."""
    for strip in app.screen._compositor.render_strips():
        yield from strip


def styles_of(app: HalosApp) -> set[Style]:
    return {segment.style for segment in segments_of(app) if segment.style and segment.text}


def sgr_of(app: HalosApp) -> str:
    looks = [look_of(style, ColorSystem.TRUECOLOR) for style in styles_of(app)]
    return " ".join(f"{look.ansi} {look.blank}" for look in looks)


def test_our_themes_are_there_and_sound() -> None:
    themes, problems = load_app_themes()
    assert set(OURS) <= set(themes)
    assert problems == []
    assert not themes["light"].dark
    assert themes["ansi-16"].ansi


@pytest.mark.parametrize("name", TRUECOLOUR)
def test_every_colour_of_a_theme_can_be_read_on_each_of_its_backgrounds(name: str) -> None:
    """As far as the theme says it; what the screens make of it, test_painted_cells measures."""
    theme = app_theme(theme_files()[name])
    unreadable = {
        (text, background): round(ratio, 2)
        for text in (*MEANT, "foreground")
        for background in ("background", "surface", "panel")
        if (ratio := contrast(colour(theme, text), colour(theme, background))) < READABLE
    }
    assert unreadable == {}


@pytest.mark.parametrize("eyes", SEEN_BY)
def test_colours_of_the_colour_blind_theme_differ_for_all_eyes(eyes: Eyes) -> None:
    """The colours of meanings are those of the charts' lines too."""
    theme = app_theme(theme_files()["colour-blind"])
    alike = {
        (one, other): round(apart, 1)
        for one, other in combinations(MEANT, 2)
        if (apart := difference(lab(colour(theme, one), eyes), lab(colour(theme, other), eyes)))
        < 15
    }
    assert alike == {}


def test_the_difference_of_colours_is_that_of_the_papers_examples() -> None:
    """Sharma, Wu and Dalal 2005, table 1: pairs 1, 7, 17, 25 and 34."""
    pairs = [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ]
    for first, second, expected in pairs:
        assert difference(first, second) == pytest.approx(expected, abs=1e-4)


def colour(theme: Theme, name: str) -> Color:
    return Color.parse(getattr(theme, name))


def test_a_theme_of_the_users_own_goes_before_ours(config_folder: Path) -> None:
    write_theme(config_folder, "dark", APP_LINES)
    write_theme(config_folder, "mine", APP_LINES.replace("#000001", "#010101"))
    themes, problems = load_app_themes()
    assert problems == []
    assert themes["dark"].primary == "#000001"
    assert themes["mine"].primary == "#010101"
    assert theme.load_theme("mine").styles["good"].color is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (APP_LINES.replace("#000004", "greenish"), "app.success = 'greenish' is no colour"),
        (APP_LINES.replace('accent = "#000003"\n', ""), "app.accent"),
        (APP_LINES.replace("[app]", "[ap]"), "has no table [app]"),
        ("rubbish", "cannot be read as a theme"),
        (APP_LINES.replace("#000004", "\\u001b[31m"), "'\\x1b[31m' is no colour"),
    ],
)
def test_a_theme_that_is_wrong_is_named(config_folder: Path, text: str, said: str) -> None:
    write_theme(config_folder, "mine", text)
    with pytest.raises(HalosError) as refused:
        app_theme(config_folder / "themes" / "mine.toml")
    assert said in str(refused.value)
    themes, problems = load_app_themes()
    assert "mine" not in themes and len(problems) == 1


def test_the_app_goes_on_with_ours_where_the_wanted_theme_is_wrong(
    tmp_path: Path, config_folder: Path
) -> None:
    write_theme(config_folder, "mine", APP_LINES.replace("#000004", "greenish"))
    (config_folder / "config.toml").write_text('theme = "mine"\n')
    MadeRun(tmp_path / "runs")

    async def look() -> None:
        async with shell(tmp_path / "runs") as (app, pilot):
            await listed(pilot, "a-run")
            assert app.theme == "dark"
            told = " ".join(notice.message for notice in app._notifications)
            assert "'greenish' is no colour" in told
            assert "no theme 'mine'" in told

    drive(look())


def test_the_command_line_goes_before_the_configuration(
    tmp_path: Path, config_folder: Path
) -> None:
    config_folder.mkdir(parents=True)
    (config_folder / "config.toml").write_text('theme = "light"\n')

    async def look() -> None:
        async with shell(tmp_path) as (app, _):
            assert app.theme == "light"
        async with shell(tmp_path, theme="high-contrast") as (app, _):
            assert app.theme == "high-contrast"

    drive(look())


def test_themes_are_switched_while_one_looks(tmp_path: Path) -> None:
    MadeRun(tmp_path)

    async def look() -> None:
        async with shell(tmp_path) as (app, pilot):
            await listed(pilot, "a-run")
            seen = {app.theme: styles_of(app)}
            for _ in range(len(load_app_themes()[0]) - 1):
                before = app.theme
                await pilot.press("ctrl+t")
                await until(pilot, lambda before=before: app.theme != before)
                await pilot.pause()
                seen[app.theme] = styles_of(app)
                await listed(pilot, "a-run")
            assert set(seen) == set(load_app_themes()[0])
            assert not set(seen) & set(BUILTIN_THEMES)
            assert seen["dark"] != seen["light"]
            await pilot.press("ctrl+t")
            await until(pilot, lambda: app.theme == "dark")

    drive(look())


def test_no_color_leaves_attributes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    MadeRun(tmp_path).whole_round(1)

    async def look() -> None:
        async with shell(tmp_path) as (app, pilot):
            await listed(pilot, "a-run")
            for keys in (("down",), ("slash", "x"), ("escape",), ("question_mark",), ("escape",)):
                await pilot.press(*keys)
                await pilot.pause()
                assert colours_in(sgr_of(app)) == set()
            assert any(style.reverse for style in styles_of(app))
            await pilot.press("ctrl+t")
            await until(pilot, lambda: any("NO_COLOR" in n.message for n in app._notifications))
            await pilot.press("ctrl+p")
            await until(pilot, lambda: isinstance(app.screen, CommandPalette))
            await until_shown(pilot, "Select all runs shown")
            assert colours_in(sgr_of(app)) == set()
            await pilot.press("escape", "enter")
            await until_shown(pilot, "reward before training")
            assert colours_in(sgr_of(app)) == set()

    drive(look())


def colours_in(sgr: str) -> set[str]:
    """Parameters of SGR sequences that set a colour (ECMA-48, 8.3.117)."""
    codes = re.split(r"[; ]+", sgr)
    numbers = {int(code) for code in codes if code}
    return {str(number) for number in numbers if 30 <= number <= 49 or 90 <= number <= 107}


def test_the_sixteen_colours_are_the_only_ones(tmp_path: Path) -> None:
    MadeRun(tmp_path).whole_round(1)

    async def look() -> None:
        async with shell(tmp_path, theme="ansi-16", size=(120, 40)) as (app, pilot):
            await listed(pilot, "a-run")
            assert used_colours(app) <= {ColorType.DEFAULT, ColorType.STANDARD}
            assert ColorType.STANDARD in used_colours(app)
            await pilot.press("enter")
            await until_shown(pilot, "reward before training")
            assert used_colours(app) <= {ColorType.DEFAULT, ColorType.STANDARD}
            await pilot.press("ctrl+p")
            await until_shown(pilot, "To the screen before")
            assert used_colours(app) <= {ColorType.DEFAULT, ColorType.STANDARD}
            await pilot.press("escape", "ctrl+t")
            await until(pilot, lambda: app.theme != "ansi-16")
            await pilot.pause()
            assert ColorType.TRUECOLOR in used_colours(app)

    drive(look())


def used_colours(app: HalosApp) -> set[ColorType]:
    pairs = [(style.color, style.bgcolor) for style in styles_of(app)]
    return {colour.type for pair in pairs for colour in pair if colour is not None}


def test_ascii_draws_with_ascii_alone(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, "läuft-漢字")
    run.whole_round(1)

    async def look() -> None:
        async with shell(tmp_path, is_ascii=True, size=(120, 40)) as (app, pilot):
            await until_shown(pilot, "1 run")
            app.notify("a notice with … and ─")
            for keys in (
                (),
                ("slash", "x"),
                ("escape",),
                ("question_mark",),
                ("escape",),
                ("ctrl+p",),
                ("escape",),
                ("enter",),
                ("question_mark",),
            ):
                await pilot.press(*keys)
                await pilot.pause(0.3)
                assert screen_text(app).isascii(), screen_text(app)
            assert screen_text(app).strip()

    drive(look())


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("┌──┐│x│└──┘", "+--+|x|+--+"),
        ("⣿⠀⡇", ": :"),
        ("▁▄█", "-##"),
        ("● ▸ ✓ ✗", "# > + x"),
        ("漢字", "? ? "),
        ("é e\u0301", "? ?"),
        ("🔎 x", "?  x"),
        ("plain", "plain"),
        ("1…2\u00a03", "1.2 3"),
    ],
)
def test_every_character_has_an_ascii_one_of_its_width(text: str, drawn: str) -> None:
    assert in_ascii(text) == drawn


def test_filters_leave_text_and_attributes() -> None:
    segment = Segment("─ x", Style(color="#102030", bgcolor="red", bold=True, reverse=True))
    (plain,) = NoColours().apply([segment], BLACK)
    assert plain == Segment("─ x", Style(bold=True, reverse=True))
    (few,) = SixteenColours().apply([segment], BLACK)
    assert few.style is not None and few.style.color is not None
    assert few.style.color.type == ColorType.STANDARD and few.style.bold
    (simple,) = AsciiOnly().apply([segment], BLACK)
    assert simple == Segment("- x", segment.style)
    assert NoColours().apply([Segment("x")], BLACK) == [Segment("x")]
    assert SixteenColours().apply([Segment("x")], BLACK) == [Segment("x")]


def test_the_page_of_the_design_says_what_the_themes_are() -> None:
    """Colours of each theme in a row, each with its contrast to the background."""
    themes, _ = load_app_themes()
    page = (Path(__file__).parents[2] / "docs" / "design.md").read_text(encoding="utf-8")
    head, *rows = (line.split("|")[1:-1] for line in page.splitlines() if ROW.match(line))
    names = [cell.strip() for cell in head[1:]]
    assert [row[0].split()[0] for row in rows] == [*TRUECOLOUR]
    for row in rows:
        theme = themes[row[0].split()[0]]
        background = Color.parse(theme.background or "")
        for name, cell in zip(names, row[1:], strict=True):
            colour = getattr(theme, name)
            told = f"`{colour}` {contrast(Color.parse(colour), background):.1f}"
            assert cell.strip() == told, (theme.name, name)
