"""Words changes and results: figures, differences, who and when. It is pure."""

from __future__ import annotations

from typing import assert_never

from halos_tui.changes.entries import Entry
from halos_tui.changes.results import Figure, Result, Unit
from halos_tui.formatting import (
    ABSENT,
    count,
    date_time,
    duration,
    number,
    percent,
    rough_duration,
    signed,
    size,
)

DIGITS = 3
FEW, MANY = 1e3, 1e7
MINUTE_S = 60.0
LEAST_S = 0.05
"""A shorter time is not shown."""
FATES = {
    "holds": "",
    "replaced": "replaced",
    "waits": "waits",
    "beyond": "waits",
    "unused": "unused",
    "refused": "refused",
    "told": "",
}


def plus_minus(*, is_ascii: bool) -> str:
    return "+-" if is_ascii else "±"


def figure(found: Figure | None, unit: Unit) -> str:
    return ABSENT if found is None else _value(found.value, unit)


def difference(result: Result) -> str:
    """Returns a difference with its sign: +0.031, -3.2 pp, +12s."""
    found = result.difference
    return ABSENT if found is None else _difference(found, result.measure.unit)


def stderr(value: float | None, *, is_ascii: bool) -> str:
    """Returns what stands behind a value: ` ± 0.012`."""
    return "" if value is None else f" {plus_minus(is_ascii=is_ascii)} {number(value, 2)}"


def relative(result: Result) -> str:
    """Returns a relative change, such as +24%; "" where it means nothing, as for shares (in
    points).
    """
    found = result.relative
    if not found or result.measure.unit == "share" or difference(result) == "0":
        return ""
    return f"{_sign(found)}{_figure(abs(100 * found), 2 if abs(found) < 1 else DIGITS)}%"


def age(t: float, now: float) -> str:
    """Returns the age of a change in whole minutes: <1m, 12m, 2h10m."""
    minutes = max(0.0, now - t) // MINUTE_S
    return rough_duration(minutes * MINUTE_S) if minutes else "<1m"


def how(entry: Entry) -> str:
    """Says what was done and by whom: `set by alice@box`."""
    by = entry.by or "somebody"
    match entry.verb:
        case "set" | "extend":
            return f"{entry.verb} by {by}"
        case "fork":
            return "fork"
        case "guard":
            return entry.by
        case "versions":
            return f"found by the {by}"
        case "refused":
            return f"asked for by {by}"
        case _:
            assert_never(entry.verb)


def when(entry: Entry, now: float) -> str:
    return f"{date_time(entry.t)} ({age(entry.t, now)} ago)"


def _value(value: float, unit: Unit) -> str:
    match unit:
        case "number":
            return _figure(value, DIGITS)
        case "count":
            return count(round(value))
        case "share":
            return percent(value)
        case "time":
            return duration(value)
        case "size":
            return size(value)
        case _:
            assert_never(unit)


def _difference(value: float, unit: Unit) -> str:
    if value == 0 or (unit == "time" and abs(value) < LEAST_S):
        return "0"
    if unit == "share":
        return f"{signed(100 * value, DIGITS)} pp"
    return f"{_sign(value)}{_value(abs(value), unit)}"


def _figure(value: float, digits: int) -> str:
    """Writes a figure without a power of ten where that takes only a few digits more."""
    return f"{value:,.0f}" if FEW <= abs(value) < MANY else number(value, digits)


def _sign(value: float) -> str:
    return "+" if value > 0 else "-"
