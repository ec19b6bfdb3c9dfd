"""Starts a program of ours beside another one, and leaves nothing of it when it ends.

What the two say to each other is their own business; the companion's first argument is the file
descriptor of its end of the channel, and it ends when the other end is closed.
"""

from __future__ import annotations

import select
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import psutil

from halos_backend.interpreters.programs import in_interpreter, program, program_environment
from halos_backend.stages.channel import Channel

LOOK_S = 0.5


class Companion:
    """Is the process, and our end of its channel, where it sends `answers`."""

    def __init__(
        self,
        module: str,
        *arguments: str | Path | int,
        answers: Any,
        environment: Mapping[str, str] | None = None,
        python: str | None = None,
        directory: Path | None = None,
        log: IO[bytes] | None = None,
    ) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                in_interpreter(program(module, theirs.fileno(), *arguments), python),
                cwd=directory,
                env=program_environment() if environment is None else environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs.fileno(),),
            )
        self.channel = Channel(ours, answers)

    def answers(self) -> Iterator[Any]:
        """Yields what it says, until it has ended: what it leaves behind may hold its
        channel open.
        """
        while not self.channel.is_closed:
            if select.select([self.channel], [], [], LOOK_S)[0]:
                yield from self.channel.receive(wait=False)
            elif self.process.poll() is not None:
                return

    def end(self, timeout_s: float) -> None:
        """Gives it so long to end by itself, and kills what is left of its tree."""
        tree = _tree(self.process.pid)
        self.channel.shut()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout_s)
        for process in (*tree, *_tree(self.process.pid)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()


def _tree(pid: int) -> list[psutil.Process]:
    """Returns the process and its descendants, while it lives."""
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        return [*first.children(recursive=True), first]
    return []
