"""A program on a pseudo-terminal: what it writes there, and keys for it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import subprocess
import termios
import time
from collections.abc import Sequence
from types import TracebackType

DEADLINE_S = 30.0
OWN_SEQUENCES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
"""What rich sends: colours, cursor moves, erasing; never an OSC, DCS or a bare ESC."""


class Terminal:
    """A session of its own, with the pseudo-terminal for its controlling terminal."""

    def __init__(
        self, command: Sequence[str], *, env: dict[str, str], rows: int = 24, columns: int = 80
    ) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (rows, columns))
        self.process = subprocess.Popen(
            command,
            env={**env, "TERM": "xterm-256color"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.output = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.hang_up()

    def hang_up(self) -> None:
        """Close the terminal, as when a connection drops."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    @property
    def text(self) -> str:
        """What was written so far, without rich's own sequences."""
        return OWN_SEQUENCES.sub(b"", self.output).decode()

    def wait_for(self, text: str, *, after: int = 0) -> None:
        """Read until `text` was written. Fails after the deadline."""
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.text[after:]:
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.text[after:]}"
            if not self._read():
                assert text in self.text[after:], f"ended without {text!r}:\n{self.text[after:]}"

    def exit_code(self) -> int:
        """Read to the end; the exit code."""
        deadline = time.monotonic() + DEADLINE_S
        while self._read():
            assert time.monotonic() < deadline, f"does not end; it wrote:\n{self.text}"
        return self.process.wait(timeout=DEADLINE_S)

    def _read(self) -> bool:
        """Whether more may come."""
        if select.select([self._master], [], [], 0.05)[0]:
            try:
                content = os.read(self._master, 65536)
            except OSError:  # nobody has the other side open any more
                return False
            self.output += content
            return bool(content)
        return self.process.poll() is None
