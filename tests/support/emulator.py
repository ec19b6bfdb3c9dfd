"""An emulated screen, for what pyte 0.8.2 does not know by itself.

Queries and the private sequences of newer keyboards draw nothing; pyte would print their letters.
"""

from __future__ import annotations

import re

import pyte
from wcwidth import wcwidth

UNKNOWN_TO_PYTE = re.compile(rb"\x1b\[[<>=][0-9;]*[a-zA-Z]|\x1b\[\?[0-9]+\$p")
CUT_SEQUENCE = re.compile(rb"\x1b(\[[0-9;?<>=$]*)?\Z")


class Emulator:
    """A screen of that many columns and lines. Sequences may be cut between two feeds."""

    def __init__(self, columns: int, lines: int) -> None:
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self._held_back = b""

    def feed(self, content: bytes) -> None:
        content = self._held_back + content
        cut = CUT_SEQUENCE.search(content)
        end = cut.start() if cut else len(content)
        self._held_back = content[end:]
        self._stream.feed(UNKNOWN_TO_PYTE.sub(b"", content[:end]))

    @property
    def lines(self) -> list[str]:
        return [self._line(y).rstrip() for y in range(self.screen.lines)]

    def _line(self, y: int) -> str:
        """Half of a wide character whose other half was drawn over is blank, as terminals have it;
        pyte's own `display` fails on a right half that is left.
        """
        row = self.screen.buffer[y]
        cells = [row[x].data for x in range(self.screen.columns)]
        drawn = list(cells)
        for x, cell in enumerate(cells):
            follows_wide = x > 0 and is_wide(cells[x - 1])
            if (not cell and not follows_wide) or (is_wide(cell) and any(cells[x + 1 : x + 2])):
                drawn[x] = " "
        return "".join(drawn)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def is_wide(cell: str) -> bool:
    return bool(cell) and wcwidth(cell[0]) == 2
