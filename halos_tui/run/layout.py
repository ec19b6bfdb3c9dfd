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
    "header",
    "stage",
    "rounds",
    "says",
    "rewards",
    "distribution",
    "curves",
    "machine",
    "notices",
    "events",
]
Places = dict[PanelName, Region]

MEDIUM = 100
WIDE = 160
MOST_PROGRESS_LINES = 6
MOST_HEADER_LINES = 5
MIN_HEIGHT_FOR_HEADER = 20
ROUNDS_WIDTH = 78
GAP = 2
MIN_CHART = 6
MIN_ROUNDS = 5
MIN_NOTICES = 3
MIN_EVENTS = 3
FEW_SAYS = 3
ALL_SAYS = 5
"""It takes so many lines to show what the policy says at least, and with a title and all four."""


@dataclass(frozen=True)
class Needs:
    """Says what the panels have to say; without notices their room goes to the events."""

    num_progress_lines: int = 4
    num_header_lines: int = 1
    num_devices: int = 1
    num_device_notes: int = 0
    has_notices: bool = True


def arrange(width: int, height: int, needs: Needs) -> Places:
    """Places the panels; one without a place is not shown. Nothing overlaps, nothing sticks out."""
    if height < 1 or width < 1:
        return {}
    places: Places = {}
    top = _top(places, width, height, needs)
    if width >= MEDIUM and height - top >= 16:
        _beside_each_other(places, width, top, height, needs)
    else:
        _below_each_other(places, width, top, height, needs)
    return places


def _top(places: Places, width: int, height: int, needs: Needs) -> int:
    """Places header and stages over the whole width; returns the first free row."""
    most = MOST_HEADER_LINES if height >= MIN_HEIGHT_FOR_HEADER else 2
    header = min(height, most, max(1, needs.num_header_lines))
    places["header"] = Region(0, 0, width, header)
    stage = min(MOST_PROGRESS_LINES, max(1, needs.num_progress_lines), height - header)
    if stage:
        places["stage"] = Region(0, header, width, stage)
    gap = 1 if height - header - stage > 30 else 0
    return header + stage + gap


def _below_each_other(places: Places, width: int, top: int, bottom: int, needs: Needs) -> None:
    """Gives the rounds what the others leave, at least `MIN_ROUNDS` lines."""
    left = bottom - top
    if left >= 8:
        events = 6 if left >= 32 else 2 if left >= 17 else 1
        bottom = _row(places, bottom, width, events, ["events"])
        if needs.has_notices:
            notices = 5 if left >= 32 else 1
            bottom = _row(places, bottom, width, notices, ["notices"])
    left = bottom - top
    if left >= MIN_ROUNDS + 2 * (MIN_CHART + 2) + ALL_SAYS:
        names: list[PanelName] = ["distribution", "machine"]
        bottom = _row(places, bottom, width, min(12, left // 3), _fitting(names, width))
        left = bottom - top
    says = ALL_SAYS if left >= 22 else FEW_SAYS if left >= MIN_ROUNDS + FEW_SAYS else 0
    if left - says >= MIN_ROUNDS + MIN_CHART:
        chart = min(12, max(MIN_CHART, (left - says) // 2))
        bottom = _row(places, bottom, width, chart, _fitting(["rewards", "curves"], width))
    if says:
        bottom = _row(places, bottom, width, says, ["says"])
    if bottom > top:
        places["rounds"] = Region(0, top, width, bottom - top)


def _beside_each_other(places: Places, width: int, top: int, bottom: int, needs: Needs) -> None:
    """Places rounds beside machine and events, below what the policy says, and charts last."""
    left = bottom - top
    gap = 1 if left > 28 else 0
    says = max(ALL_SAYS, min(11, left // 6))
    upper = max(MIN_ROUNDS, (left - says) // 2)
    middle = top + upper
    _columns(places, middle, middle + says, width, ["says"])
    says += gap
    names: list[PanelName] = ["rewards", "curves"]
    if width < WIDE:
        names.insert(1, "distribution")
        _columns(places, middle + says, bottom, width, names)
        side = _side(places, top, middle - gap, width, ["machine"], needs)
    else:
        third = width // 3
        _columns(places, middle + says, bottom, third, ["rewards"])
        rest = width - third - GAP
        _columns(places, middle + says, bottom, rest, ["curves"], x=third + GAP)
        side = _side(places, top, middle - gap, width, ["distribution", "machine"], needs)
    places["rounds"] = Region(0, top, side - GAP, upper - gap)


def _side(
    places: Places, top: int, bottom: int, width: int, names: list[PanelName], needs: Needs
) -> int:
    """Places panels beside each other right of the rounds; below the last the warnings and the
    events.
    """
    left = min(ROUNDS_WIDTH, width * 2 // 3) + GAP
    _columns(places, top, bottom, width - left, names, x=left)
    x, _, inner, height = places[names[-1]]
    least = MIN_EVENTS + (MIN_NOTICES if needs.has_notices else 0)
    machine = _machine_height(height - least, needs)
    notices = (
        max(MIN_NOTICES, (height - machine - MIN_EVENTS) // 2)
        if needs.has_notices and height - machine - MIN_EVENTS >= MIN_NOTICES
        else 0
    )
    places["machine"] = Region(x, top, inner, machine)
    if notices:
        places["notices"] = Region(x, top + machine, inner, notices)
    if machine + notices < height:
        start = top + machine + notices
        places["events"] = Region(x, start, inner, height - machine - notices)
    return left


def _machine_height(most: int, needs: Needs) -> int:
    """Returns two lines a device, or one, with a title and what is said of devices besides."""
    least = 1 + needs.num_devices + needs.num_device_notes
    roomy = least + needs.num_devices
    return max(2, min(most, roomy if roomy <= most else least))


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
