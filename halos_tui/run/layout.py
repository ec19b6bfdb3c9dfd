"""Says where the panels of the run screen lie, for every size of terminal. It is pure.

A small terminal has what is needed to know how the run stands, a tall and narrow one panels below
each other. From 100 columns on they are beside each other, from 160 on everything is there at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from textual.geometry import Region

PanelName = Literal[
    "header", "stage", "rounds", "rewards", "distribution", "curves", "machine", "notices", "log"
]
Places = dict[PanelName, Region]

MEDIUM = 100
WIDE = 160
LINES_A_STAGE = 3
MOST_STAGES = 2
MOST_HEADER_LINES = 5
MIN_HEIGHT_FOR_HEADER = 20
ROUNDS_WIDTH = 80
GAP = 2
MIN_CHART = 6
MIN_ROUNDS = 5
MIN_NOTICES = 3


@dataclass(frozen=True)
class Needs:
    """Says what the panels at the top have to say."""

    num_stages: int = 1
    num_header_lines: int = 2
    num_devices: int = 1


def arrange(width: int, height: int, needs: Needs) -> Places:
    """Places the panels; one without a place is not shown. Nothing overlaps, nothing sticks out."""
    if height < 1 or width < 1:
        return {}
    places: Places = {}
    top = _top(places, width, height, needs)
    if width >= MEDIUM and height - top >= 16:
        _beside_each_other(places, width, top, height, needs)
    else:
        _below_each_other(places, width, top, height)
    return places


def _top(places: Places, width: int, height: int, needs: Needs) -> int:
    """Places header and stages over the whole width; returns the first free row."""
    most = MOST_HEADER_LINES if height >= MIN_HEIGHT_FOR_HEADER else 2
    header = min(height, most, max(2, needs.num_header_lines))
    places["header"] = Region(0, 0, width, header)
    wanted = max(1, LINES_A_STAGE * min(MOST_STAGES, needs.num_stages))
    stage = min(wanted, height - header)
    if stage:
        places["stage"] = Region(0, header, width, stage)
    gap = 1 if height - header - stage > 30 else 0
    return header + stage + gap


def _below_each_other(places: Places, width: int, top: int, bottom: int) -> None:
    """Gives the rounds what the others leave, at least `MIN_ROUNDS` lines."""
    left = bottom - top
    if left >= 8:
        places["notices"] = Region(0, bottom - 2, width, 1)
        places["log"] = Region(0, bottom - 1, width, 1)
        bottom, left = bottom - 2, left - 2
    if left >= 32:
        bottom = _row(places, bottom, width, 6, ["log"])
        bottom = _row(places, bottom, width, 5, ["notices"])
        left = bottom - top
    if left >= MIN_ROUNDS + 2 * (MIN_CHART + 2):
        names: list[PanelName] = ["distribution", "machine"]
        bottom = _row(places, bottom, width, min(12, left // 3), _fitting(names, width))
        left = bottom - top
    if left >= MIN_ROUNDS + MIN_CHART:
        chart = min(12, max(MIN_CHART, left // 2))
        bottom = _row(places, bottom, width, chart, _fitting(["rewards", "curves"], width))
    if bottom > top:
        places["rounds"] = Region(0, top, width, bottom - top)


def _beside_each_other(places: Places, width: int, top: int, bottom: int, needs: Needs) -> None:
    """Places rounds and machine, below them charts, below them the log."""
    log = min(14, max(3, (bottom - top) // 5))
    bottom = _row(places, bottom, width, log, ["log"])
    left = bottom - top
    upper = max(MIN_ROUNDS, left * 9 // 20)
    middle = top + upper
    names: list[PanelName] = ["rewards", "curves"]
    if width < WIDE:
        names.insert(1, "distribution")
        _columns(places, middle, bottom, width, names)
        side = _side(places, top, middle, width, ["machine"], needs)
    else:
        third = width // 3
        _columns(places, middle, bottom, third, ["rewards"])
        _columns(places, middle, bottom, width - third - GAP, ["curves"], x=third + GAP)
        side = _side(places, top, middle, width, ["distribution", "machine"], needs)
    places["rounds"] = Region(0, top, side - GAP, upper)


def _side(
    places: Places, top: int, bottom: int, width: int, names: list[PanelName], needs: Needs
) -> int:
    """Places panels beside each other right of the rounds, the warnings below the last."""
    left = min(ROUNDS_WIDTH, width * 2 // 3) + GAP
    _columns(places, top, bottom, width - left, names, x=left)
    x, _, inner, height = places[names[-1]]
    machine = _machine_height(height, needs.num_devices)
    places["machine"] = Region(x, top, inner, machine)
    places["notices"] = Region(x, top + machine, inner, height - machine)
    return left


def _machine_height(height: int, num_devices: int) -> int:
    """Returns two lines a device, or one, and a title; at least `MIN_NOTICES` lines are left."""
    most = height - MIN_NOTICES
    roomy = 2 + 2 * num_devices
    return max(2, min(most, roomy if roomy <= most else 2 + num_devices))


def _fitting(names: list[PanelName], width: int) -> list[PanelName]:
    return names if width >= 64 else names[:1]


def _row(places: Places, bottom: int, width: int, height: int, names: Sequence[PanelName]) -> int:
    """Places a row of panels above `bottom`; returns its first line."""
    _columns(places, bottom - height, bottom, width, names)
    return bottom - height


def _columns(
    places: Places, top: int, bottom: int, width: int, names: Sequence[PanelName], *, x: int = 0
) -> None:
    inner = width - GAP * (len(names) - 1)
    for index, name in enumerate(names):
        start = index * inner // len(names)
        end = (index + 1) * inner // len(names)
        places[name] = Region(x + start + index * GAP, top, end - start, bottom - top)
