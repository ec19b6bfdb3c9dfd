"""This panel is the table of rounds: it has a cursor, and only rows in sight are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message

from halos_tui.formatting import measured_in_ascii
from halos_tui.run.view import RoundRow, RoundsView
from halos_tui.tracking import rounds
from halos_tui.widgets.panel import Line, Panel

LEFT_OUT_FIRST = ("prompts", "loss", "label", "sample", "train", "feedback", "KL", "change")
"""These columns go first when there is no room for all of them."""
SCROLL = 3


class RoundTable(Panel[RoundsView]):
    """The newest round is at the bottom; the cursor stays on it until it is moved away."""

    can_focus = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Round before", show=False),
        Binding("down,j", "move(1)", "Round after", show=False),
        Binding("pageup", "page(-1)", "Rounds before", show=False),
        Binding("pagedown", "page(1)", "Rounds after", show=False),
        Binding("home", "first", "First round", show=False),
        Binding("end", "newest", "Newest round", show=False),
    ]

    class Selected(Message):
        """This message says that the cursor is on that round; None: on the newest, whichever that
        is.
        """

        def __init__(self, round: int | None) -> None:
            super().__init__()
            self.round = round

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__(is_ascii=is_ascii, id=id)
        self.selected: int | None = None
        self._top = 0

    @property
    def num_rounds(self) -> int:
        return len(self.shown.rows) if self.shown else 0

    def lines(self, shown: RoundsView, width: int, height: int) -> Iterator[Line]:
        """Yields the header, and the rows around the cursor."""
        columns = _columns(shown.widths, width)
        yield [(rounds.HEADER[i].rjust(shown.widths[i]) + " ", "muted") for i in columns]
        if not shown.rows:
            yield [("no round has begun yet", "muted")]
        self._scroll_to_cursor(height - 1)
        cursor = self._cursor()
        for row in shown.rows[self._top : self._top + height - 1]:
            line = _line(row, columns, shown.widths, is_cursor=row.round == cursor)
            if self.is_ascii:
                line = [(measured_in_ascii(text), name) for text, name in line]
            yield line

    def select(self, round: int | None) -> None:
        """Puts the cursor there; on the newest round it follows."""
        if round is not None:
            round = max(1, round)
        selected = None if round is None or round >= self.num_rounds else round
        if selected != self.selected:
            self.selected = selected
            self.repaint()
            self.post_message(self.Selected(selected))

    def action_move(self, by: int) -> None:
        self.select(self._cursor() + by)

    def action_page(self, by: int) -> None:
        self.select(self._cursor() + by * max(1, self.size.height - 2))

    def action_first(self) -> None:
        self.select(1)

    def action_newest(self) -> None:
        self.select(None)

    def on_click(self, event: Click) -> None:
        if 0 < event.y <= self.num_rounds - self._top:
            self.select(self._top + event.y)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self.action_move(-SCROLL)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self.action_move(SCROLL)

    def _cursor(self) -> int:
        return self.num_rounds if self.selected is None else self.selected

    def _scroll_to_cursor(self, height: int) -> None:
        """Scrolls as little as is needed."""
        place = self._cursor() - 1
        most = max(0, self.num_rounds - max(1, height))
        self._top = min(most, max(min(self._top, place), place - max(1, height) + 1))


def _line(row: RoundRow, columns: list[int], widths: Sequence[int], *, is_cursor: bool) -> Line:
    line = []
    for index in columns:
        style = "cursor" if is_cursor else _style(row, index)
        line += [(row.cells[index].rjust(widths[index]), style), (" ", "cursor" * is_cursor)]
    return line


def _style(row: RoundRow, index: int) -> str:
    if rounds.HEADER[index] == "change" and row.change:
        return "good" if row.change > 0 else "bad"
    match row.cells[index]:
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
