"""Starts, watches and ends a stage's process tree; it never waits, so that its caller stays awake.

The tree is found by an environment tag, by session and by descent, because torchrun workers make
sessions of their own and outlive a killed parent, and some programs overwrite their environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from halos_backend import clock
from halos_backend.errors import HalosError
from halos_backend.events import ProcessIdentity
from halos_backend.store.identity import (
    ProcessStatus,
    identify,
    is_alive,
    process_status,
    send_signal,
)
from halos_backend.supervisor.launch import ATTEMPT_TAG

POLL_S = 0.01
KILL_TIMEOUT_S = 10.0


class StageProcess:
    """A stage's first process: started here, or adopted from an earlier supervisor."""

    def __init__(
        self, identity: ProcessIdentity, attempt_dir: Path, child: subprocess.Popen[bytes] | None
    ) -> None:
        self.identity = identity
        self.attempt_dir = attempt_dir
        self._child = child
        self._kill_at: float | None = None

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
        """Whether the first process runs. It is not reaped here, so its pid stays its own."""
        if self._child is None:
            return is_alive(self.identity)
        if self._child.returncode is not None:
            return False
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._child.pid, options) is None

    @property
    def is_ending(self) -> bool:
        return self._kill_at is not None

    @property
    def exit_code(self) -> int | None:
        """Once the tree is gone: negative for a signal; None of an adopted process."""
        return None if self._child is None else self._child.returncode

    def end(self, *, grace_s: float) -> None:
        """Ask the whole tree to end; `is_gone` kills what is left after `grace_s`."""
        if self._kill_at is not None:
            return
        self._kill_at = clock.monotonic() + grace_s
        if grace_s > 0:
            self._signal(self._living(), signal.SIGTERM)

    def is_gone(self) -> bool:
        """Whether nothing of the tree lives. After `end` and its grace this kills the rest."""
        # twice: a process that forks and ends during one look shows neither itself nor its child
        if living := self._living() or self._living():
            if self._kill_at is not None and clock.monotonic() >= self._kill_at:
                self._signal(living, signal.SIGKILL)
            return False
        if self._child is not None:
            self._child.wait()
        return True

    def _living(self) -> list[ProcessStatus]:
        holds_pid = is_alive(self.identity) or (
            self._child is not None and self._child.returncode is None
        )
        return attempt_processes(self.attempt_dir, session=self.identity.pid if holds_pid else None)

    def _signal(self, processes: Sequence[ProcessStatus], number: signal.Signals) -> None:
        for process in processes:
            send_signal(process.pid, process.start_time, number)


def kill_attempt(attempt_dir: Path) -> None:
    """Kill what runs for an attempt that nobody watches. Raises HalosError if it lives on."""
    deadline = clock.monotonic() + KILL_TIMEOUT_S
    while living := attempt_processes(attempt_dir):
        if clock.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in living)
            raise HalosError(f"processes of {attempt_dir} cannot be killed: {pids}")
        for process in living:
            send_signal(process.pid, process.start_time, signal.SIGKILL)
        time.sleep(POLL_S)


def attempt_processes(attempt_dir: Path, *, session: int | None = None) -> list[ProcessStatus]:
    """The living processes of an attempt: with its tag, of the session, and their descendants.

    Name a session only while its leader's pid cannot have been given to another process; without
    one, what neither carries the tag nor descends from a process that does stays unseen.
    """
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    running = {status.pid: status for pid in pids if (status := process_status(pid))}
    tag = f"{ATTEMPT_TAG}={attempt_dir}".encode()
    found = {
        pid
        for pid, status in running.items()
        if status.session == session or tag in _environment(pid)
    }
    while more := {
        pid for pid, status in running.items() if status.parent in found and pid not in found
    }:
        found |= more
    return [running[pid] for pid in found if running[pid].is_alive and pid != os.getpid()]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
