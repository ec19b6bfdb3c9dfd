"""Owns what Ctrl-C, a closed terminal and SIGTERM mean while a run is followed.

None of them ends the run by itself.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Literal, NoReturn

from halos_backend import clock
from halos_backend.errors import UsageError

from halos_tui.formatting import visible_lines

ANSWER_TIMEOUT_S = 5.0
TYPING_TIMEOUT_S = 30.0

Answer = Literal["abort", "pause", "detach", "go on"]


class Signals:
    """Counts signals instead of obeying them, as long as it is entered."""

    def __init__(self) -> None:
        self.interrupts = 0
        self.terminations = 0
        self.hung_up = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        match number:
            case signal.SIGINT:
                self.interrupts += 1
            case signal.SIGTERM:
                self.terminations += 1
            case _:
                self.hung_up = True


@contextmanager
def ends_tidily() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP unwind as Ctrl-C does, so that nothing half-made is left behind."""

    def unwind(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, unwind) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def somebody_can_answer() -> bool:
    """Says whether a question on standard error can be read and answered."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def agrees(question: str, *, without: str) -> bool:
    """Says whether the person on the terminal says yes.

    Raises UsageError where there is no terminal, which says what to do `without` one.
    """
    if not somebody_can_answer():
        raise UsageError(without)
    sys.stderr.write(f"{visible_lines(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def ask(signals: Signals, question: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> Answer:
    """Asks, and waits for a key; a second Ctrl-C pauses. No key, or any other key, goes on.

    No answer that two quick presses give ends a run: "abort" is still to be confirmed by `types`.
    """
    with _single_keys(sys.stdin.fileno()) as fd:
        asked = signals.interrupts
        deadline = clock.monotonic() + timeout_s
        print(question, file=sys.stderr, flush=True)  # noqa: T201
        while clock.monotonic() < deadline and not (signals.hung_up or signals.terminations):
            if signals.interrupts > asked:
                return "pause"
            if select.select([fd], [], [], 0.05)[0]:
                return _answer(os.read(fd, 1))
    return "detach" if signals.hung_up else "go on"


def _answer(key: bytes) -> Answer:
    match key:
        case b"d" | b"D" | b"":  # an empty read: the terminal is gone
            return "detach"
        case b"p" | b"P":
            return "pause"
        case b"a" | b"A":
            return "abort"
        case _:
            return "go on"


def types(signals: Signals, word: str, question: str) -> bool:
    """Says whether the person types `word` and Enter; a signal, or none in time, means no."""
    fd, asked = sys.stdin.fileno(), signals.interrupts
    deadline = clock.monotonic() + TYPING_TIMEOUT_S
    termios.tcflush(fd, termios.TCIFLUSH)
    print(question, end=" ", file=sys.stderr, flush=True)  # noqa: T201
    while clock.monotonic() < deadline and not (signals.hung_up or signals.terminations):
        if signals.interrupts > asked:
            return False
        if select.select([fd], [], [], 0.05)[0]:
            return os.read(fd, 64).strip() == word.encode()
    return False


@contextmanager
def _single_keys(fd: int) -> Iterator[int]:
    """Lets keys arrive without Enter and without echo; Ctrl-C stays a signal."""
    before = termios.tcgetattr(fd)
    termios.tcflush(fd, termios.TCIFLUSH)  # what was typed before the question is no answer to it
    tty.setcbreak(fd, termios.TCSADRAIN)
    try:
        yield fd
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
