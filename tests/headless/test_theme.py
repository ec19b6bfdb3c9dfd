"""Themes: colours by meaning, from TOML."""

from __future__ import annotations

from pathlib import Path

import pytest
from halos_backend.errors import HalosError, UsageError

from halos_tui import theme


def test_every_theme_of_the_source_tree_has_every_meaning() -> None:
    names = [path.stem for path in (Path(__file__).parents[2] / "themes").glob("*.toml")]
    assert "dark" in names
    for name in names:
        styles = theme.load_theme(name).styles
        assert set(theme.MEANINGS) <= set(styles)


def test_a_theme_in_the_package_comes_before_the_source_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed, source = tmp_path / "installed", tmp_path / "source"
    for place, colour in ((installed, "red"), (source, "blue")):
        place.mkdir()
        lines = [f'{meaning} = "{colour}"' for meaning in theme.MEANINGS]
        (place / "mine.toml").write_text("\n".join(["[colours]", *lines]))
    monkeypatch.setattr(theme, "PLACES", (installed, source))
    assert theme.load_theme("mine").styles["accent"].color.name == "red"


def test_an_unknown_theme_is_refused() -> None:
    with pytest.raises(UsageError, match="no theme 'nope'"):
        theme.load_theme("nope")


@pytest.mark.parametrize(
    "text", ["[colours]\naccent = 1", "[colours]", "rubbish", "[colours]\naccent='nocolour'"]
)
def test_a_broken_theme_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "broken.toml").write_text(text)
    monkeypatch.setattr(theme, "PLACES", (tmp_path,))
    with pytest.raises(HalosError, match=r"broken\.toml"):
        theme.load_theme("broken")
