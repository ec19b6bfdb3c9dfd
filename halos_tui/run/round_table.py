"""This panel is the table of rounds: it has a cursor, and only rows in sight are drawn."""

from __future__ import annotations

from halos_tui.formatting import measured_in_ascii
from halos_tui.run.view import RoundRow, RoundsView
from halos_tui.tracking import rounds
from halos_tui.widgets.panel import Line
from halos_tui.widgets.virtual_list import VirtualList

LEFT_OUT_FIRST = ("prompts", "loss", "label", "sample", "train", "feedback", "KL", "change")
"""These columns go first when there is no room for all of them."""


class RoundTable(VirtualList[RoundsView, RoundRow]):
    """The newest round is at the bottom; the cursor stays on it until it is moved away."""

    @property
    def selected(self) -> int | None:
        """Returns the round at the cursor; None: the newest, whichever that is."""
        return None if self.cursor >= self.num_rows - 1 else self.cursor + 1

    def rows(self, shown: RoundsView) -> tuple[RoundRow, ...]:
        return shown.rows

    def key(self, row: RoundRow) -> int:
        return row.round

    def show(self, shown: RoundsView) -> None:
        if self.selected is None and shown.rows:
            self.go_to(shown.rows[-1].round)
        super().show(shown)

    def caption(self, width: int) -> Line:
        note = rounds.REWARD_NOTE
        return [("rounds", "title"), (f"  {note}" if len(note) + 8 <= width else "", "muted")]

    def heading(self, shown: RoundsView, width: int) -> Line:
        columns = _columns(shown.widths, width)
        return [(rounds.HEADER[i].rjust(shown.widths[i]) + " ", "muted") for i in columns]

    def if_empty(self, shown: RoundsView) -> list[Line]:
        del shown
        return [[("no round has begun yet", "muted")]]

    def line_of(self, shown: RoundsView, row: RoundRow, width: int) -> Line:
        line = []
        for index in _columns(shown.widths, width):
            text = rounds.text_of(row.cells, index, shown.looks).rjust(shown.widths[index])
            line += [(measured_in_ascii(text) if self.is_ascii else text, _style(row, index))]
            line += [(" ", "")]
        return line

    def line_at_cursor(self, shown: RoundsView, row: RoundRow, width: int) -> Line:
        return [(text, "cursor") for text, _ in self.line_of(shown, row, width)]


def _style(row: RoundRow, index: int) -> str:
    if rounds.HEADER[index] == "change" and row.change:
        return "good" if row.change > 0 else "bad"
    match row.cells.texts[index]:
        case "...":
            return "accent"
        case "failed" | "untrained" | "aborted" | "stopped":
            return "warning"
        case _:
            return ""


def _columns(widths: tuple[int, ...], width: int) -> list[int]:
    """Returns the indices of columns that fit beside each other."""
    kept = list(range(len(widths)))
    for name in LEFT_OUT_FIRST:
        if sum(widths[index] + 1 for index in kept) <= width + 1:
            break
        kept.remove(rounds.HEADER.index(name))
    return kept
