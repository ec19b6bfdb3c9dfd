"""This panel shows a log's last lines; it stands alone so that the screen only composes panels."""

from __future__ import annotations

from collections.abc import Iterator

from halos_tui.run.view import LogView
from halos_tui.widgets.panel import Line, Panel


class LogTail(Panel[LogView]):
    """It has a title where there are three lines or more."""

    def lines(self, shown: LogView, width: int, height: int) -> Iterator[Line]:
        del width
        if height > 2:
            yield [("log", "title"), (f"  {shown.title}" if shown.title else "", "muted")]
        room = height - (height > 2)
        if shown.problem:
            yield [(shown.problem, "warning")]
        if not shown.lines:
            what = f"{shown.title} has written nothing" if shown.title else "no stage has run yet"
            yield [(what, "muted")]
        for line in shown.lines[-room:] if room > 0 else ():
            yield [(line.expandtabs(4), "")]
