"""A program on a real pseudo-terminal, and what a person would see there.

A thread plays the terminal: it reads, and answers what the program asks of it. All that was read is
kept, with the time it came; it is drawn on an emulated screen when somebody looks.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from pyte.screens import Char

from tests.support.emulator import Emulator

DEADLINE_S = 60.0
BLOCK = 65536
ANSWERS = {
    b"\x1b[?2026$p": b"\x1b[?2026;2$y",  # synchronised output: known, and off
    b"\x1b[?2048$p": b"\x1b[?2048;0$y",  # size reports in band: not known
}
KEYS = {
    "enter": "\r",
    "escape": "\x1b",
    "tab": "\t",
    "backspace": "\x7f",
    "delete": "\x1b[3~",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "pagedown": "\x1b[6~",
    "pageup": "\x1b[5~",
    "home": "\x1b[H",
    "end": "\x1b[F",
    "space": " ",
    "ctrl+c": "\x03",
    "ctrl+k": "\x0b",
    "ctrl+p": "\x10",
    "ctrl+s": "\x13",
    "ctrl+t": "\x14",
    "ctrl+u": "\x15",
}


class Chunk(NamedTuple):
    """Bytes of one read, and when they came, by `time.monotonic`."""

    t: float
    content: bytes


class Terminal:
    """The program is a session of its own, with this for its controlling terminal.

    It is killed at the end of a `with` if it still runs. `command[0]` is an absolute path.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        columns: int = 120,
        lines: int = 40,
    ) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (lines, columns))
        self.chunks: list[Chunk] = []
        self._emulator = Emulator(columns, lines)
        self._num_drawn = 0
        self._changed = threading.Condition()
        self._may_read = threading.Event()
        self._may_read.set()
        self._is_over = False
        self._code: int | None = None
        self.started_t = time.monotonic()
        self.pid = _spawn(command, {**environment, "TERM": "xterm-256color"}, os.ttyname(slave))
        os.close(slave)
        self._reader = threading.Thread(target=self._read_all, name="terminal", daemon=True)
        self._reader.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.exit_code is None:
            self.signal(signal.SIGKILL)
        self.wait()
        self.hang_up()

    def press(self, *keys: str, pause_s: float = 0.0) -> None:
        """Type keys by name (`enter`, `down`), or text as it is."""
        for key in keys:
            os.write(self._master, KEYS.get(key, key).encode())
            time.sleep(pause_s)
            if key == "escape":
                time.sleep(0.3)  # what follows at once would be one sequence with it

    def press_at_once(self, *keys: str) -> None:
        """Type keys as a slow line delivers them: the program gets all of them in one read."""
        os.write(self._master, "".join(KEYS.get(key, key) for key in keys).encode())

    def resize(self, columns: int, lines: int) -> None:
        """The kernel tells the program by SIGWINCH."""
        with self._changed:
            self._draw()
            self._emulator.screen.resize(lines, columns)
            termios.tcsetwinsize(self._master, (lines, columns))

    def stop_reading(self) -> None:
        """What the program writes stays in the kernel, until that is full."""
        self._may_read.clear()

    def go_on_reading(self) -> None:
        self._may_read.set()

    def hang_up(self) -> None:
        """Close the terminal, as when a window is closed or a connection drops."""
        self._is_over = True
        self._may_read.set()
        self._reader.join()
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    @property
    def text(self) -> str:
        """The screen now, blanks at the ends of lines left out."""
        with self._changed:
            return self._draw()

    @property
    def cells(self) -> list[list[Char]]:
        """The cells of each line, with their looks."""
        with self._changed:
            self._draw()
            screen = self._emulator.screen
            return [
                [screen.buffer[y][x] for x in range(screen.columns)] for y in range(screen.lines)
            ]

    @property
    def raw(self) -> bytes:
        """Every byte the program wrote."""
        with self._changed:
            return b"".join(chunk.content for chunk in self.chunks)

    @property
    def num_bytes(self) -> int:
        with self._changed:
            return sum(len(chunk.content) for chunk in self.chunks)

    def wait_for(self, *texts: str, deadline_s: float = DEADLINE_S) -> str:
        """Until all of them are on the screen at once; the screen then."""
        return self.wait_until(
            lambda screen: all(text in screen for text in texts),
            what=" and ".join(map(repr, texts)),
            deadline_s=deadline_s,
        )

    def wait_until(
        self, holds: Callable[[str], bool], *, what: str, deadline_s: float = DEADLINE_S
    ) -> str:
        """Until `holds` is true of the screen. Fails with the screen after the deadline."""
        end = time.monotonic() + deadline_s
        with self._changed:
            while not holds(screen := self._draw()):
                left = end - time.monotonic()
                assert left > 0, f"no {what} on the screen:\n{screen}"
                assert not self._is_over, f"the program ended without {what}:\n{screen}"
                self._changed.wait(min(left, 1.0))
            return screen

    def wait_for_bytes(self, content: bytes, *, after: int) -> Chunk:
        """The first chunk with that in it, but for the first `after`; nothing is drawn."""
        end = time.monotonic() + DEADLINE_S
        with self._changed:
            while True:
                for chunk in self.chunks[after:]:
                    if content in chunk.content:
                        return chunk
                assert time.monotonic() < end, f"no {content!r} came"
                self._changed.wait(1.0)

    def settle(self, quiet_s: float = 0.5, *, deadline_s: float = DEADLINE_S) -> str:
        """Until nothing has come for `quiet_s` from now on; the screen then."""
        begun = time.monotonic()
        end = begun + deadline_s
        while time.monotonic() < end:
            with self._changed:
                latest = max(begun, self.chunks[-1].t if self.chunks else 0.0)
                if time.monotonic() - latest >= quiet_s:
                    return self._draw()
            time.sleep(0.02)
        raise AssertionError(f"the screen never keeps still:\n{self.text}")

    @property
    def exit_code(self) -> int | None:
        """Negative for a signal; None while the program runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """The exit code, once the program has ended. Fails after the deadline."""
        end = time.monotonic() + deadline_s
        while (code := self.exit_code) is None:
            assert time.monotonic() < end, f"the program does not end:\n{self.text}"
            time.sleep(0.01)
        return code

    def signal(self, number: signal.Signals) -> None:
        """Only while it is our child, running or not waited for: nobody else has its pid."""
        if self.exit_code is None:
            os.kill(self.pid, number)

    @property
    def takes_lines(self) -> bool:
        """Whether it echoes keys and hands them on as lines, as it does for a shell's commands."""
        local = termios.tcgetattr(self._master)[3]
        return bool(local & termios.ECHO and local & termios.ICANON and local & termios.ISIG)

    @property
    def cpu_s(self) -> float:
        """Seconds of a core that the program has used, children excepted."""
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        fields = stat[stat.rindex(")") + 2 :].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def pss_bytes(self) -> int:
        """Memory that is the program's, its share of what it shares with others included."""
        return self._memory("Pss")

    @property
    def own_bytes(self) -> int:
        """Memory that is the program's alone, whoever else maps the same libraries."""
        return self._memory("Anonymous")

    def _memory(self, kind: str) -> int:
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        found = re.search(rf"^{kind}:\s+(\d+) kB", rollup, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    def _read_all(self) -> None:
        while not self._is_over:
            self._may_read.wait()
            if not select.select([self._master], [], [], 0.05)[0]:
                continue
            try:
                content = os.read(self._master, BLOCK)
            except OSError:  # nobody has the other side open any more
                content = b""
            if not content:
                break
            self._take(Chunk(time.monotonic(), content))
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _take(self, chunk: Chunk) -> None:
        for question, answer in ANSWERS.items():
            if question in chunk.content:
                with contextlib.suppress(OSError):
                    os.write(self._master, answer)
        with self._changed:
            self.chunks.append(chunk)
            self._changed.notify_all()

    def _draw(self) -> str:
        for chunk in self.chunks[self._num_drawn :]:
            self._emulator.feed(chunk.content)
        self._num_drawn = len(self.chunks)
        return self._emulator.text


def _spawn(command: Sequence[str], environment: Mapping[str, str], terminal: str) -> int:
    """A leader of a session, whose first terminal opened is the controlling one. Its pid."""
    return os.posix_spawn(
        command[0],
        list(command),
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, terminal, os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, 0, 1),
            (os.POSIX_SPAWN_DUP2, 0, 2),
        ],
        setsid=True,
        setsigdef=[signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM],
    )
