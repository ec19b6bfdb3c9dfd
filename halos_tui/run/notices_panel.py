"""This panel shows warnings and counts the rest; it stands alone as every panel of the screen."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from halos_tui.formatting import visible
from halos_tui.run.view import Notice
from halos_tui.widgets.panel import Line, Panel

Notices = tuple[Notice, ...]

MOST_LINES_EACH = 3
MARKS = {"bad": "!! ", "warning": "! ", "muted": "- "}


class NoticesPanel(Panel[Notices]):
    """It has a title where there are three lines or more; on a single line it shows the first
    one.
    """

    def lines(self, shown: Notices, width: int, height: int) -> Iterator[Line]:
        if height <= 2:
            for notice in shown[:height]:
                left = len(shown) - height
                more = f"({left} more) " if left > 0 and notice is shown[height - 1] else ""
                yield [(f"{MARKS[notice.severity]}{more}{notice.text}", notice.severity)]
            return
        counted = f"  {len(shown)}" if len(shown) > 1 else ""
        yield [("warnings", "title"), (counted, "muted")]
        if not shown:
            yield [("none", "muted")]
        for notice in shown:
            yield from _wrapped(notice, width)


def _wrapped(notice: Notice, width: int) -> Iterator[Line]:
    mark = MARKS[notice.severity]
    lines = textwrap.wrap(
        visible(notice.text)[: width * MOST_LINES_EACH * 2],
        max(10, width - len(mark)),
        max_lines=MOST_LINES_EACH,
        placeholder=" ...",
    )
    for index, line in enumerate(lines):
        yield [((mark if index == 0 else " " * len(mark)) + line, notice.severity)]
