"""Words changes and results: figures, differences, who and when. It is pure."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import assert_never

from halos_tui.changes.entries import Entry
from halos_tui.changes.results import Result
from halos_tui.formatting import (
    ABSENT,
    date_time,
    denomination,
    duration,
    fixed,
    look_of,
    rough_duration,
    with_sign,
)

EXACT = 0.1
"""A smaller relative change has a digit after the point."""
NONZERO = re.compile("[1-9]")
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


def texts_of(result: Result, *, has_errors: bool = True) -> tuple[str, str, str]:
    """Writes both figures and the difference, all as exact: 0.50 ±0.10, 0.75 ±0.10, +0.25 ±0.14."""
    older, newer = (
        ABSENT if one is None else _written(result, one.value, one.stderr if has_errors else None)
        for one in (result.older, result.newer)
    )
    return older, newer, difference(result, has_error=has_errors)


def difference(result: Result, *, has_error: bool = False) -> str:
    """Returns a difference with its sign: +0.031, -3.2 pp, +12s."""
    found = result.difference
    if found is None:
        return ABSENT
    if result.unit == "time" and abs(found) < LEAST_S:
        return "0"
    text = _written(result, found, result.stderr if has_error else None, is_signed=True)
    return f"{text.replace('%', '')} pp" if result.unit == "share" else text


def relative(result: Result) -> str:
    """Returns a relative change, such as +24%; "" where it means nothing, as for shares (in
    points).
    """
    found = result.relative
    if not found or result.unit == "share" or not NONZERO.search(difference(result)):
        return ""
    return with_sign(f"{fixed(100 * found, 0 if abs(found) >= EXACT else 1)}%")


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


def _written(
    result: Result, value: float, error: float | None = None, *, is_signed: bool = False
) -> str:
    """Writes a value of the result as exact as the others are."""
    unit, values = result.unit, [one.value for one in result.figures]
    if unit == "time":
        text = f"{'-' * (value < 0)}{duration(abs(value))}"
        return with_sign(text) if is_signed else text
    largest = max(map(abs, values), default=0.0)
    factor, name = (1.0, "") if unit == "share" else denomination(unit, largest)
    errors = [*(one.stderr for one in result.figures), result.stderr]
    look = look_of([factor * one for one in values], errors, is_share=unit == "share")
    look = replace(look, is_signed=is_signed, has_error=error is not None)
    return look.write(factor * value, error) + name
