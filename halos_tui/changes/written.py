"""What is taken out of the changes screen: the page, or the history with it. Pure.

Nothing is cut short, so that it belongs into a thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from halos_tui.changes.entries import Entry
from halos_tui.changes.history import fate_of
from halos_tui.changes.page import UNBROKEN, ChangesPage, as_text
from halos_tui.changes.view import ChangesView
from halos_tui.changes.wording import how
from halos_tui.formatting import columns, date_time, plural, visible

HEADER = ("when", "from", "how", "what", "")


def page_text(view: ChangesView) -> str:
    """The page as it is shown, values whole."""
    return as_text(ChangesPage(UNBROKEN, view.now, most=None).lines(view.found, view.about))


def whole_text(view: ChangesView, run: str) -> str:
    """The entries that are listed, and the page."""
    head = f"{visible(run)}: {plural(len(view.entries), 'change')}"
    return "\n".join([head, *_listed(view.entries), "", page_text(view)])


def _listed(entries: Sequence[Entry]) -> list[str]:
    if not entries:
        return []
    rows = [
        (date_time(entry.t), f"round {entry.from_round}", how(entry), entry.what, _fate(entry))
        for entry in entries
    ]
    return columns(HEADER, [[visible(cell) for cell in row] for row in rows])


def _fate(entry: Entry) -> str:
    """With the reason, where it was refused or is no setting."""
    return "; ".join(filter(None, (fate_of(entry), entry.why)))
