"""What there is to know of the setting at the cursor, and of all edits together."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from halos_tui.formatting import plural, visible
from halos_tui.settings_form import FormView
from halos_tui.settings_rows import Row
from halos_tui.widgets.panel import Line, Panel


@dataclass(frozen=True)
class Details:
    """The form, the row at the cursor, and lines of the form's owner with their styles."""

    view: FormView
    row: Row | None
    more: tuple[tuple[str, str], ...] = ()


class SettingsDetails(Panel[Details]):
    """Most important first: below what fits nothing is shown."""

    def lines(self, shown: Details, width: int, height: int) -> Iterator[Line]:
        del height
        inner = max(10, width - 1)
        for text, style in (*_about_row(shown), *_about_all(shown)):
            for line in _wrapped(text, inner):
                yield [(f" {line}", style)]


def _about_row(shown: Details) -> Iterator[tuple[str, str]]:
    row = shown.row
    if row is None:
        return
    if problem := shown.view.problems.get(row.path):
        yield f"! {row.path}: {problem}", "bad"
    yield f"{row.path}: {row.help}", ""
    takes = f"takes {row.takes}"
    default = f"; default {row.default}" if row.default else ""
    yield (f"fixed: {row.fixed}" if row.fixed else takes + default), "muted"


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
