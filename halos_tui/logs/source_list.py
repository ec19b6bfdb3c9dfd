"""This widget lists logs to choose one; it stands alone so that its screen only joins widgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType

from halos_tui.logs.reader import LogSource
from halos_tui.widgets.panel import Line
from halos_tui.widgets.virtual_list import VirtualList


@dataclass(frozen=True)
class Sources:
    """`now` is the log that is shown."""

    sources: tuple[LogSource, ...] = ()
    now: LogSource | None = None


class SourceList(VirtualList[Sources]):
    """Enter takes the log at the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "choose", "Choose", show=False)]

    @property
    def num_rows(self) -> int:
        return len(self.shown.sources) if self.shown else 0

    @property
    def source(self) -> LogSource | None:
        """Returns the log at the cursor."""
        if self.shown is None or self.cursor >= self.num_rows:
            return None
        return self.shown.sources[self.cursor]

    def offer(self, sources: tuple[LogSource, ...], now: LogSource | None) -> None:
        """Begins with the cursor on the log that is shown."""
        if now in sources:
            self.cursor = sources.index(now)
        self.show(Sources(sources, now))

    def heading(self, shown: Sources, width: int) -> Line:
        del width
        return [(f"{len(shown.sources)} logs; enter takes one, escape leaves", "muted")]

    def row(self, shown: Sources, place: int, width: int) -> Line:
        del width
        source = shown.sources[place]
        mark = "* " if source == shown.now else "  "
        return [(mark + source.title, ""), ("  running" if source.is_running else "", "accent")]

    def action_choose(self) -> None:
        self.post_message(self.Chosen())
