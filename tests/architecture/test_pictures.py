"""The pictures of README and docs: small, and never of an empty panel."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from pyte.screens import Char

from screenshots.make import checked, without_host
from screenshots.picture import Frame, animation, picture, row_svg, rows_of, text_of, turns

PICTURES = sorted((Path(__file__).parents[2] / "screenshots").glob("*.svg"))
MOST_BYTES = 400_000
BOX = ("╭─ log ─╮", "│       │", "╰───────╯")


def frame_of(*lines: str) -> Frame:
    return Frame(rows_of([[Char(letter) for letter in line] for line in lines]))


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_a_picture_is_small_and_has_no_script(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(path).iter()}
    assert "text" in tags and "script" not in tags


def test_pictures_are_drawn_as_text_and_as_shapes_that_fill_their_cells() -> None:
    drawn = row_svg(frame_of("a b ──█").rows[0], "#1c1c1c")
    assert '<text fill="#d0d0d0" x="0" y="13.5" textLength="27">a b</text>' in drawn
    assert '<path stroke="#d0d0d0" d="M36 9h18"/>' in drawn
    assert '<rect x="54" y="0" width="9" height="18" fill="#d0d0d0"/>' in drawn
    assert "<title>a &lt; b</title>" in picture(frame_of("<&>"), "a < b")


def test_lines_that_frames_share_stand_once_and_each_frame_has_its_time() -> None:
    moving = animation([frame_of("same", "one"), frame_of("same", "two")], "x")
    assert [moving.count(f">{word}<") for word in ("same", "one", "two")] == [1, 1, 1]
    assert "k0{0.000%{visibility:visible}25.000%{visibility:hidden}}" in turns([1.0, 3.0])
    assert "k1{0.000%{visibility:hidden}25.000%{visibility:visible}}" in turns([1.0, 3.0])


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (BOX, "─ log ─"),
        (("loss", "no values yet"), "line 2 says 'no values yet'"),
        (("policy /home/someone/models/tiny",), "'/home/someone/models/tiny' is of this machine"),
    ],
)
def test_what_no_picture_may_show_is_named(lines: tuple[str, ...], named: str) -> None:
    with pytest.raises(SystemExit, match=named):
        checked("logs", frame_of(*lines))


def test_a_picture_of_a_full_panel_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "secret.example")
    frame = frame_of(BOX[0], "│ 1 of 2│", BOX[2], "by alice@secret.example: chosen/rejected")
    frame = Frame(tuple(map(without_host, frame.rows)))
    assert checked("logs", frame) == frame
    assert text_of(frame.rows[3]) == "by alice@pc            : chosen/rejected"
