"""Asks the terminal for its background colour (OSC 11), and keeps the answer out of the keys.

The app does not wait: the question goes out with the first picture, and `BackgroundTold` comes when
the terminal answers, or never. An answer is taken out of what was read, in one piece or in many,
before Textual's parser makes keys of it. What an answer changes is the app's business.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator

from textual.color import Color
from textual.driver import Driver
from textual.drivers import linux_driver
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message

try:
    from textual._xterm_parser import XTermParser
except ImportError:
    XTermParser = None  # type: ignore[assignment, misc]

QUESTION = "\x1b]11;?\x1b\\"
PRINTS_QUESTIONS = ("linux",)
"""Old consoles of Linux show a part of what they do not know."""
AWAITED_S = 5.0
"""A later answer is taken out of the keys, and changes nothing any more."""
ESCAPE_S = 0.25
"""While an answer is awaited, an ESC may be its first byte for so long; then it is a key."""
PIECE_S = 1.0
"""An answer whose next piece does not come in this time is dropped."""
MAX_CHARACTERS = 1000

WHOLE = re.compile(r"\x1b\]11;([^\x07\x1b]*)(?:\x07|\x1b\\)")
CUT_OFF = re.compile(
    rf"\x1b\]11;[^\x07\x1b]*(?=\x1b[^\\])|\x1b\]11;[^\x07\x1b]{{{MAX_CHARACTERS},}}"
)
BEGUN = re.compile(r"\x1b(\](1(1(;[^\x07\x1b]*\x1b?)?)?)?)?\Z")
COLOUR = re.compile(
    r"rgba?:([0-9a-f]{1,4})/([0-9a-f]{1,4})/([0-9a-f]{1,4})(?:/[0-9a-f]{1,4})?", re.I
)


class BackgroundTold(Message):
    """This message says what colour the terminal's background has."""

    def __init__(self, background: Color) -> None:
        super().__init__()
        self.background = background


def colour_of(answer: str) -> Color | None:
    """Returns the colour of an answer in X11's words (XParseColor), of 1 to 4 digits a part."""
    found = COLOUR.fullmatch(answer)
    if found is None:
        return None
    red, green, blue = (
        round(int(part, 16) * 255 / (16 ** len(part) - 1)) for part in found.groups()
    )
    return Color(red, green, blue)


class Answers:
    """Takes answers out of what is read, and holds back what may be the beginning of one."""

    def __init__(self, asked_t: float) -> None:
        self.told: Color | None = None
        """It is the first colour that came in time."""
        self._awaited_until_t = asked_t + AWAITED_S
        self._held = ""
        self._held_t = asked_t

    def keys_of(self, read: str, now: float) -> str:
        """Returns what is left for the keys."""
        whole = self._held + read
        is_awaited = self.told is None and now < self._awaited_until_t
        for answer in WHOLE.findall(whole):
            if is_awaited and self.told is None:
                self.told = colour_of(answer)
        rest = CUT_OFF.sub("", WHOLE.sub("", whole))
        begun = BEGUN.search(rest)
        place = begun.start() if begun and (is_awaited or begun[0] != "\x1b") else len(rest)
        self._held, self._held_t = rest[place:], now
        return rest[:place]

    def overdue(self, now: float) -> str:
        """Returns what was held back for keys for too long; of a begun answer nothing."""
        if now < self._held_t + (ESCAPE_S if self._held == "\x1b" else PIECE_S):
            return ""
        held, self._held = self._held, ""
        return "" if held.startswith("\x1b]11;") else held


def asking(kind: type[Driver]) -> type[Driver]:
    """Returns a driver that asks, of one for Linux whose parser is known; others as they are."""
    is_known = kind is LinuxDriver and XTermParser is not None
    return AskingDriver if is_known and hasattr(linux_driver, "XTermParser") else kind


if XTermParser is not None:

    class AnswerParser(XTermParser):
        """Makes messages of what is read, answers included."""

        def __init__(self, debug: bool = False) -> None:
            super().__init__(debug)
            self._answers = Answers(time.monotonic())
            self._is_told = False

        def feed(self, data: str) -> Iterable[Message]:
            if not data:
                yield from super().feed(data)
                return
            if keys := self._answers.keys_of(data, time.monotonic()):
                yield from super().feed(keys)
            told = self._answers.told
            if told is not None and not self._is_told:
                self._is_told = True
                yield BackgroundTold(told)

        def tick(self) -> Iterator[Message]:
            if keys := self._answers.overdue(time.monotonic()):
                yield from super().feed(keys)
            yield from super().tick()


class AskingDriver(LinuxDriver):
    """Asks once, if the app follows the terminal."""

    _has_asked = False

    def start_application_mode(self) -> None:
        wanted = getattr(self._app, "follows_terminal", False) and not self._has_asked
        super().start_application_mode()  # type: ignore[no-untyped-call]
        if wanted and self.input_tty and os.environ.get("TERM") not in PRINTS_QUESTIONS:
            self._has_asked = True
            self.write(QUESTION)
            self.flush()

    def run_input_thread(self) -> None:
        """Reads with our parser, which Textual's loop takes by its name."""
        vars(linux_driver)["XTermParser"] = AnswerParser
        super().run_input_thread()
