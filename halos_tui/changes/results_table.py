"""The results of two rounds as the lines of a table, as wide as there is room. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from halos_tui.changes.results import Result
from halos_tui.changes.wording import difference, figure, relative, stderr

Cell = tuple[str, str]
"""A value, and its standard error behind it."""


def table(
    results: Sequence[Result], names: tuple[str, str], *, width: int, is_ascii: bool = False
) -> list[str]:
    """The heading, then a line for each result; `names` are those of the older and newer round.

    Where the lines do not fit, the relative change is left out first, then the standard errors.
    """
    titles = ["results", *names, "change", "%"]
    rows = [_cells(result, is_ascii=is_ascii) for result in results]
    shorter = [row[:-1] for row in rows]
    bare = [[(value, "") for value, _ in row] for row in shorter]
    lines: list[str] = []
    for kept in (rows, shorter, bare):
        lines = _lines(titles, kept)
        if max(map(len, lines)) <= width:
            break
    return lines


def _lines(titles: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    columns = [
        _column(title, column, to_left=not place)
        for place, (title, column) in enumerate(zip(titles, zip(*rows, strict=True), strict=False))
    ]
    return ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]


def _cells(result: Result, *, is_ascii: bool) -> list[Cell]:
    unit = result.measure.unit
    figures = [
        (figure(found, unit), stderr(found.stderr if found else None, is_ascii=is_ascii))
        for found in (result.older, result.newer)
    ]
    change = (difference(result), stderr(result.stderr, is_ascii=is_ascii))
    return [(result.measure.name, ""), *figures, change, (relative(result), "")]


def _column(title: str, cells: Sequence[Cell], *, to_left: bool) -> list[str]:
    """The values under each other, whether an error follows or not."""
    of_errors = max(len(error) for _, error in cells)
    texts = [title, *(value + error.ljust(of_errors) for value, error in cells)]
    width = max(map(len, texts))
    return [text.ljust(width) if to_left else text.rjust(width) for text in texts]
