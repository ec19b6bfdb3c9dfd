"""What there is to know of the setting at the cursor, and of all edits together."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from halos_tui.formatting import plural, visible
from halos_tui.settings.form import FormView
from halos_tui.settings.rows import Row
from halos_tui.widgets.panel import Line, Panel

ROOMY = 12
"""From so many lines on there is room for long explanations."""


@dataclass(frozen=True)
class Details:
    """The form, the row at the cursor, and lines of the form's owner with their styles."""

    view: FormView
    row: Row | None
    more: tuple[tuple[str, str], ...] = ()


class SettingsDetails(Panel[Details]):
    """Most important first: below what fits nothing is shown."""

    def lines(self, shown: Details, width: int, height: int) -> Iterator[Line]:
        inner = max(10, width - 1)
        most = 2 if height < ROOMY else height
        for text, style in _about_row(shown):
            wrapped = _wrapped(text, inner)
            yield from ([(f" {line}", style)] for line in wrapped[:most])
        for text, style in _about_all(shown):
            yield from ([(f" {line}", style)] for line in _wrapped(text, inner))


def _about_row(shown: Details) -> Iterator[tuple[str, str]]:
    row = shown.row
    if row is None:
        return
    problem = shown.view.problems.get(row.path)
    if problem:
        yield f"! {row.path}: {problem}", "bad"
    yield f"{row.path}: {row.help}", ""
    if row.fixed:
        yield row.fixed, "muted"
    elif not problem:
        default = f"default {row.default}; " if row.default else ""
        yield f"{default}takes {row.takes}", "muted"


def _about_all(shown: Details) -> Iterator[tuple[str, str]]:
    view, row = shown.view, shown.row
    here = None if row is None else row.path
    others = [(path, reason) for path, reason in view.problems.items() if path != here]
    for path, reason in others[:3]:
        yield (f"! {path}: {reason}" if path else f"! {reason}"), "bad"
    if len(others) > 3:
        yield f"! and {plural(len(others) - 3, 'more problem')}", "bad"
    for sentence in view.checked.consequences:
        yield f"> {sentence}", "accent"
    yield from shown.more


def _wrapped(text: str, width: int) -> list[str]:
    return [
        line
        for part in text.split("\n")
        for line in textwrap.wrap(
            visible(part), width, subsequent_indent="  ", break_on_hyphens=False
        )
        or [""]
    ]
