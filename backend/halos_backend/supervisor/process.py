"""Starts, watches and ends a stage's process tree.

The tree is found by session, by descent and by an environment tag, because torchrun workers make
sessions of their own and outlive a killed parent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from halos_backend import clock
from halos_backend.events import ProcessIdentity
from halos_backend.store.identity import identify, is_alive
from halos_backend.supervisor.launch import ATTEMPT_TAG

POLL_S = 0.02


class StageProcess:
    """A stage's first process: started here, or adopted from an earlier supervisor."""

    def __init__(
        self, identity: ProcessIdentity, attempt_dir: Path, child: subprocess.Popen[bytes] | None
    ) -> None:
        self.identity = identity
        self.attempt_dir = attempt_dir
        self._child = child

    @classmethod
    def start(
        cls, command: Sequence[str], *, attempt_dir: Path, log: Path, environment: Mapping[str, str]
    ) -> StageProcess:
        """Start in a session of its own, output to a file, working in the attempt directory."""
        with log.open("ab") as output:
            child = subprocess.Popen(
                command,
                cwd=attempt_dir,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(identify(child.pid), attempt_dir, child)

    @classmethod
    def adopt(cls, identity: ProcessIdentity, attempt_dir: Path) -> StageProcess:
        """Watch a process that an earlier supervisor started; its exit code will stay unknown."""
        return cls(identity, attempt_dir, None)

    @property
    def is_running(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return is_alive(self.identity)

    @property
    def exit_code(self) -> int | None:
        """Of a process that ended; negative for a signal; None where nobody waited for it."""
        return None if self._child is None else self._child.returncode

    def kill_tree(self, *, grace_s: float) -> None:
        """SIGTERM, then after `grace_s` SIGKILL, to every process of the attempt; waits for them."""
        self._signal_all(signal.SIGTERM)
        deadline = clock.monotonic() + grace_s
        while self._living() and clock.monotonic() < deadline:
            time.sleep(POLL_S)
        while self._living():
            self._signal_all(signal.SIGKILL)
            time.sleep(POLL_S)

    def _living(self) -> list[int]:
        if self._child is not None:
            self._child.poll()
        return tagged_processes(self.attempt_dir)

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in tagged_processes(self.attempt_dir):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def tagged_processes(attempt_dir: Path) -> list[int]:
    """Pids of the living processes that carry the attempt's tag in their environment."""
    tag = f"{ATTEMPT_TAG}={attempt_dir}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if tag in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found
