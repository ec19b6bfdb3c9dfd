"""Says where the panels of the run screen lie, for every size of terminal. It is pure.

A small terminal has what is needed to know how the run stands, a tall and narrow one panels below
each other. From 100 columns on they are beside each other, from 160 on everything is there at once.

Header and stages have no border. All others have one, with the title in it, which takes one line as
a rule and two as a box; a panel of two lines is bare.
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
"""So many columns are between panels that have no boxes."""
MIN_CHART = 5
MIN_ROUNDS = 4
USUAL_EVENTS = 8
"""So many lines stand beside a short table where there is room."""
LINES_A_NOTICE = 2
MOST_SIDE_NOTICES = 6
MIN_NOTICES = 2
MIN_EVENTS = 2
FEW_SAYS = 3
ALL_SAYS = 4
"""It takes so many lines to show what the policy says at least, and all four completions."""
LEAST_FRAMED = 3


@dataclass(frozen=True)
class Needs:
    """Says what the panels have to say; without notices their room goes to the events.

    `num_rounds` counts the rows of the table when the run is done, as far as that is known, and
    `has_long_texts` says that completions do not fit on a line each.
    """

    num_progress_lines: int = 4
    num_header_lines: int = 1
    num_devices: int = 1
    num_device_notes: int = 0
    num_notices: int = 1
    num_rounds: int | None = None
    has_long_texts: bool = True


def arrange(width: int, height: int, needs: Needs, *, boxed: bool = False) -> Places:
    """Places the panels; one without a place is not shown. Nothing overlaps, nothing sticks out."""
    if height < 1 or width < 1:
        return {}
    places: Places = {}
    top = _top(places, width, height, needs)
    if width >= MEDIUM and height - top >= 16:
        _beside_each_other(places, Region(0, top, width, height - top), needs, boxed=boxed)
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
    return header + stage


def _below_each_other(places: Places, width: int, top: int, bottom: int, needs: Needs) -> None:
    """Gives the rounds what the others leave, at least `MIN_ROUNDS` lines below their title."""
    rule = 1
    left = bottom - top
    if left >= 8:
        events = 6 if left >= 32 else 1 + rule if left >= 17 else 1
        bottom = _row(places, bottom, width, events, ["events"])
        if needs.num_notices:
            notices = 5 if left >= 32 else 1
            bottom = _row(places, bottom, width, notices, ["notices"])
    left = bottom - top
    least = MIN_ROUNDS + rule
    if left >= least + 2 * (MIN_CHART + 3) + ALL_SAYS + rule:
        names: list[PanelName] = ["distribution", "machine"]
        bottom = _row(places, bottom, width, min(12, left // 3), _fitting(names, width))
        left = bottom - top
    says = FEW_SAYS + rule if left >= least + FEW_SAYS else 0
    if left >= least + MIN_CHART + ALL_SAYS + rule:
        says = ALL_SAYS + rule
    if left - says >= least + MIN_CHART:
        chart = min(12, max(MIN_CHART, (left - says) // 2))
        bottom = _row(places, bottom, width, chart, _fitting(["rewards", "curves"], width))
    if says:
        bottom = _row(places, bottom, width, says, ["says"])
    if bottom > top:
        places["rounds"] = Region(0, top, width, bottom - top)


def _beside_each_other(places: Places, room: Region, needs: Needs, *, boxed: bool) -> None:
    """Places rounds beside machine and events, below what the policy says, and charts last."""
    frame, gap = (2, 0) if boxed else (1, GAP)
    x, top, width, height = room
    says = ALL_SAYS + frame
    if needs.has_long_texts:
        says = max(says, min(11, height // 6))
    lines = (height - says) // 2
    if needs.num_rounds is not None:
        lines = min(lines, max(needs.num_rounds + 1 + frame, _side_height(needs, frame)))
    least = min(_least_side_height(needs, frame), height - says - MIN_CHART - frame)
    middle = top + max(MIN_ROUNDS + frame, lines, least)
    _columns(places, Region(x, middle, width, says), ["says"], gap)
    charts = Region(x, middle + says, width, room.bottom - middle - says)
    upper = Region(x, top, width, middle - top)
    if width < WIDE:
        _columns(places, charts, ["rewards", "distribution", "curves"], gap)
        _upper(places, upper, ["machine"], needs, frame, gap)
        return
    left, right = charts.split_vertical(width // 3)
    _columns(places, left, ["rewards"], gap)
    _columns(places, right.shrink((0, 0, 0, gap)), ["curves"], gap)
    _upper(places, upper, ["distribution", "machine"], needs, frame, gap)


def _upper(
    places: Places, room: Region, names: list[PanelName], needs: Needs, frame: int, gap: int
) -> None:
    """Places the rounds, and the other panels beside each other right of them; below the last of
    these the warnings and the events.
    """
    borders = 4 if frame == 2 else 0
    left, right = room.split_vertical(min(ROUNDS_WIDTH + borders, room.width * 2 // 3))
    places["rounds"] = left
    _columns(places, right.shrink((0, 0, 0, gap)), names, gap)
    x, top, width, height = places[names[-1]]
    least = MIN_EVENTS + frame + (MIN_NOTICES + frame if needs.num_notices else 0)
    machine = _machine_height(height - least, needs, frame)
    free = height - machine - MIN_EVENTS - frame
    wanted = min(frame + LINES_A_NOTICE * needs.num_notices, free * 2 // 3)
    notices = max(MIN_NOTICES + frame, wanted) if needs.num_notices else 0
    notices = notices if notices <= free else 0
    places["machine"] = Region(x, top, width, machine)
    if notices:
        places["notices"] = Region(x, top + machine, width, notices)
    if machine + notices < height:
        start = top + machine + notices
        places["events"] = Region(x, start, width, height - machine - notices)


def _side_height(needs: Needs, frame: int) -> int:
    """Returns the lines that machine, warnings and events would like to have."""
    machine = frame + 2 * needs.num_devices + needs.num_device_notes
    num_notices = min(needs.num_notices, MOST_SIDE_NOTICES)
    notices = frame + LINES_A_NOTICE * num_notices if num_notices else 0
    return machine + notices + frame + USUAL_EVENTS


def _least_side_height(needs: Needs, frame: int) -> int:
    """Returns the lines in which each device has one."""
    machine = frame + needs.num_devices + needs.num_device_notes
    notices = frame + MIN_NOTICES if needs.num_notices else 0
    return machine + notices + frame + MIN_EVENTS


def _machine_height(most: int, needs: Needs, frame: int) -> int:
    """Returns two lines a device, or one, with a frame and what is said of devices besides."""
    least = frame + needs.num_devices + needs.num_device_notes
    roomy = least + needs.num_devices
    return max(frame + 1, min(most, roomy if roomy <= most else least))


def _fitting(names: list[PanelName], width: int) -> list[PanelName]:
    return names if width >= 64 else names[:1]


def _row(places: Places, bottom: int, width: int, height: int, names: Sequence[PanelName]) -> int:
    """Places a row of panels above `bottom`; returns its first line."""
    _columns(places, Region(0, bottom - height, width, height), names, GAP)
    return bottom - height


def _columns(places: Places, room: Region, names: Sequence[PanelName], gap: int) -> None:
    inner = room.width - gap * (len(names) - 1)
    for index, name in enumerate(names):
        start = index * inner // len(names)
        end = (index + 1) * inner // len(names)
        x = room.x + start + index * gap
        places[name] = Region(x, room.y, end - start, room.height)
