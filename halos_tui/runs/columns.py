"""Owns the columns of the list of runs: what stands in them, and which fit beside each other. Pure.

A run's rewards are a curve in one line of text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from halos_backend.store.state import ENDED
from rich.cells import cell_len, set_cell_size

from halos_tui.formatting import ABSENT, date_time, measured_in_ascii, visible
from halos_tui.runs.reader import RunRow
from halos_tui.tracking.rounds import describe_reward_change, reward_among

SPARKLINE_WIDTH = 12
LEAST_NAME = 8
MARK_WIDTH = 2
LEAST_TAGS, MOST_TAGS = 8, 24
GLYPHS = {
    "running": "▸",
    "pausing": "▹",
    "paused": "▪",
    "completed": "✓",
    "failed": "✗",
    "aborting": "▫",
    "aborted": "×",
    "lost": "?",
    "stalled": "!",
    "created": "·",
    "unreadable": "!",
}
ASCII_GLYPHS = {
    "running": ">",
    "pausing": ")",
    "paused": "=",
    "completed": "+",
    "failed": "x",
    "aborting": "-",
    "aborted": "#",
    "lost": "?",
    "stalled": "!",
    "created": ".",
    "unreadable": "!",
}

NEED_A_PERSON = ("failed", "lost", "stalled", "paused", "unreadable")
GROUPS = ("at work", "needs you", "done")
"""Runs are listed under these headings, in this order."""

LEVELS = "▁▂▃▄▅▆▇█"
ASCII_LEVELS = "_.-:=+*#"


@dataclass(frozen=True)
class Column:
    """`width` is at least that of what is mostly in it; `sort` the name to sort by, if any."""

    title: str
    width: int
    sort: str | None = None
    is_right: bool = False

    def placed(self, text: str, width: int) -> str:
        """Places a text in exactly so many cells, with a mark where something was left out."""
        cells = cell_len(text)
        if cells > width:
            return set_cell_size(text, max(0, width - 1)) + ">" * (width > 0)
        blank = " " * (width - cells)
        return blank + text if self.is_right else text + blank


COLUMNS = (
    Column("name", LEAST_NAME, "name"),
    Column("status", 12, "status"),
    Column("round", 7, "round", is_right=True),
    Column("stage", 7),
    Column("loss", 6, "loss"),
    Column("reward", 8, "reward", is_right=True),
    Column("change", 14, "change", is_right=True),
    Column("rewards", SPARKLINE_WIDTH),
    Column("tags", LEAST_TAGS),
    Column("started", 16, "started"),
)
LEFT_OUT_FIRST = ("started", "loss", "rewards", "stage", "tags", "change", "round", "reward")
"""These go first when there is no room for all; name and status stay."""
SORTS: dict[str, Callable[[RunRow], float | str | None]] = {
    "started": lambda row: -row.created_t or None,
    "name": lambda row: row.name.casefold(),
    "status": lambda row: row.status,
    "round": lambda row: -row.round,
    "loss": lambda row: row.loss or None,
    "reward": lambda row: None if row.reward is None else -row.reward,
    "change": lambda row: None if row.change is None else -row.change,
}
"""The newest, furthest and best comes first; a run without a value comes last in both
directions."""


def in_order(rows: Sequence[RunRow], sort: str, *, is_reversed: bool) -> tuple[RunRow, ...]:
    """Sorts rows by one of SORTS; equal ones by their names, so that none moves by itself."""
    rows = sorted(rows, key=lambda row: row.name)
    keys = {row.name: SORTS[sort](row) for row in rows}
    known = [row for row in rows if keys[row.name] is not None]
    known.sort(key=lambda row: keys[row.name], reverse=is_reversed)  # type: ignore[arg-type, return-value]
    return (*known, *(row for row in rows if keys[row.name] is None))


def group_of(row: RunRow) -> str:
    """Returns which of GROUPS a run is in; one that is to begin is at work."""
    if row.status in NEED_A_PERSON:
        return "needs you"
    return "done" if row.status in ENDED else "at work"


def by_group(rows: Sequence[RunRow]) -> tuple[RunRow, ...]:
    """Sorts rows by their groups; within each they stay in their order."""
    return tuple(sorted(rows, key=lambda row: GROUPS.index(group_of(row))))


def fitting_columns(rows: Sequence[RunRow], width: int) -> list[tuple[Column, int]]:
    """Returns the columns that fit in so many cells, each with its width.

    The longest name with its title has its room before any other column, up to a third of the
    width. Tags have a column where a run has any. What is left over goes to tags and names that are
    longer, the rest stays free.
    """
    longest = max((cell_len(named(row)) for row in rows), default=0)
    tags = min(MOST_TAGS, max((cell_len(_tags(row)) for row in rows), default=0))
    name = max(LEAST_NAME, min(longest, max(24, width // 3)))
    kept = [column for column in COLUMNS if tags or column.title != "tags"]
    for title in LEFT_OUT_FIRST:
        if MARK_WIDTH + name + sum(column.width + 1 for column in kept[1:]) <= width:
            break
        kept = [column for column in kept if column.title != title]
    widths = {column.title: column.width for column in kept[1:]}
    left = width - MARK_WIDTH - name - sum(cells + 1 for cells in widths.values())
    if "tags" in widths:
        more = max(0, min(left, tags - widths["tags"]))
        widths["tags"], left = widths["tags"] + more, left - more
    widths["name"] = max(1, min(max(name, longest), name + left))
    return [(column, widths[column.title]) for column in kept]


def named(row: RunRow) -> str:
    """Returns the run's name, and behind it the title that a person gave it."""
    title = f"  {visible(row.words.title)}" if row.words.title else ""
    return visible(row.name) + title


def _tags(row: RunRow) -> str:
    return visible(" ".join(row.words.tags))


def texts_of(
    row: RunRow,
    columns: Sequence[tuple[Column, int]],
    *,
    places: int | None = None,
    is_ascii: bool = False,
) -> Iterator[tuple[Column, str, int]]:
    """Yields what stands in each column, with untrusted text made visible; rewards with so many
    places as are usual.

    A run that cannot be read says why in the room of all that it has no values for.
    """
    for place, (column, width) in enumerate(columns):
        if row.status == "unreadable" and column.title not in ("name", "status"):
            rest = sum(other + 1 for _, other in columns[place:]) - 1
            yield Column("problem", rest), visible(row.problem), rest
            return
        yield column, _text(row, column.title, places, is_ascii=is_ascii), width


def _text(row: RunRow, title: str, places: int | None, *, is_ascii: bool) -> str:
    match title:
        case "name":
            return named(row)
        case "tags":
            return _tags(row)
        case "status":
            return f"{(ASCII_GLYPHS if is_ascii else GLYPHS).get(row.status, ' ')} {row.status}"
        case "round":
            return f"{row.round}/{row.num_rounds}" if row.num_rounds else str(row.round)
        case "stage":
            is_waiting = row.problem and row.status == "running"
            return row.stage or ("waiting" if is_waiting else ABSENT)
        case "loss":
            return visible(row.loss)
        case "reward":
            return reward_among(row.last_reward, places)
        case "change":
            change = describe_reward_change(row.reward_change, usual=places)
            return measured_in_ascii(change) if is_ascii else change
        case "rewards":
            return sparkline(row.rewards, SPARKLINE_WIDTH, ascii=is_ascii)
        case _:
            return date_time(row.created_t)


def sparkline(values: Sequence[float | None], width: int, ascii: bool = False) -> str:
    """Draws at most `width` characters, one a value, or one for the mean of several neighbours.

    What is missing or not finite is a blank; equal values stand in the middle.
    """
    num_cells = max(0, min(width, len(values)))
    cuts = [len(values) * place // num_cells for place in range(num_cells + 1)] if num_cells else []
    means = [_mean(values[start:end]) for start, end in pairwise(cuts)]
    known = [value for value in means if value is not None]
    if not known:
        return " " * num_cells
    levels = ASCII_LEVELS if ascii else LEVELS
    low, high = min(known), max(known)
    return "".join(
        " " if value is None else levels[_level(value, low, high, len(levels))] for value in means
    )


def _mean(values: Sequence[float | None]) -> float | None:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return None
    return fmean([value / len(finite) for value in finite]) * len(finite)


def _level(value: float, low: float, high: float, num_levels: int) -> int:
    if low == high:
        return (num_levels - 1) // 2
    share = (value / 2 - low / 2) / (high / 2 - low / 2)
    return min(num_levels - 1, int(share * num_levels))
