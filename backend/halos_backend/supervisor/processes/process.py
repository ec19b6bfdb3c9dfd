"""Starts, watches and ends a stage's process tree; it never waits, so that its caller stays awake.

The tree is found by an environment tag, by session and by descent, because torchrun workers make
sessions of their own and outlive a killed parent, and some programs overwrite their environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from halos_backend import clock
from halos_backend.errors import HalosError
from halos_backend.events import ProcessIdentity
from halos_backend.store.handover import read_exit_code
from halos_backend.store.identity import (
    ProcessStatus,
    identify,
    is_alive,
    process_status,
    send_signal,
)
from halos_backend.store.run_dir import AttemptDir
from halos_backend.supervisor.processes.subreaper import (
    attempt_tag,
    forget_first,
    guards,
    stray_pids,
    watch_first,
)

POLL_S = 0.01
KILL_TIMEOUT_S = 10.0
EXIT_CODE_TIMEOUT_S = 1.0
"""Is how long the guardian may take to write down an orphaned stage's exit code."""
OOM_SCORE_ADJ = 500
"""Lets the kernel kill a stage before the supervisor and the shell."""


class StageProcess:
    """Is a stage's first process: started here, or adopted from an earlier supervisor.

    `home` is the directory that its tree carries as its tag: an attempt's, or a worker's.
    """

    def __init__(
        self, identity: ProcessIdentity, attempt_dir: Path, child: subprocess.Popen[bytes] | None
    ) -> None:
        self._identity = identity
        self.home = attempt_dir
        self._child = child
        self._kill_at: float | None = None
        self._give_up_at: float | None = None
        watch_first(identity, attempt_dir)

    @classmethod
    def start(
        cls, command: Sequence[str], *, attempt_dir: Path, log: Path, environment: Mapping[str, str]
    ) -> StageProcess:
        """Starts in a session of its own, output to a file, working in the attempt directory."""
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
        _prefer_as_oom_victim(child.pid)
        return cls(identify(child.pid), attempt_dir, child)

    @classmethod
    def adopt(cls, identity: ProcessIdentity, attempt_dir: Path) -> StageProcess:
        """Watches a process that an earlier supervisor started; the guardian learns its
        exit code.
        """
        return cls(identity, attempt_dir, None)

    @property
    def identity(self) -> ProcessIdentity:
        return self._identity

    @property
    def is_running(self) -> bool:
        """Says whether the first process runs. It is not reaped here, so its pid stays its own."""
        if self._child is None:
            return is_alive(self.identity) or self._is_waiting_for_guardian()
        if self._child.returncode is not None:
            return False
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._child.pid, options) is None

    @property
    def is_ending(self) -> bool:
        return self._kill_at is not None

    @property
    def exit_code(self) -> int | None:
        """Returns the exit code once the tree is gone: negative for a signal; None of an orphan
        that nobody reaped.
        """
        if self._child is None:
            return read_exit_code(AttemptDir(self.home))
        return self._child.returncode

    def end(self, *, grace_s: float) -> None:
        """Asks the whole tree to end; `is_gone` kills what is left after `grace_s`."""
        if self._kill_at is not None:
            return
        self._kill_at = clock.monotonic() + grace_s
        if grace_s > 0:
            self._signal(self._living(), signal.SIGTERM)

    def is_gone(self) -> bool:
        """Says whether nothing of the tree lives. After `end` and its grace this kills the rest."""
        # twice: a process that forks and ends during one look shows neither itself nor its child
        if living := self._living() or self._living():
            if self._kill_at is not None and clock.monotonic() >= self._kill_at:
                self._signal(living, signal.SIGKILL)
            return False
        if self._child is not None:
            self._child.wait()
        elif self.is_running:
            return False
        forget_first(self.identity)
        return True

    def _is_waiting_for_guardian(self) -> bool:
        """Says whether the guardian has yet to reap this zombie, which it does after
        `exit.json`.
        """
        status = process_status(self.identity.pid)
        if (
            status is None
            or status.start_time != self.identity.start_time
            or not guards(status.parent, self.home)
            or AttemptDir(self.home).exit.exists()
        ):
            return False
        if self._give_up_at is None:
            self._give_up_at = clock.monotonic() + EXIT_CODE_TIMEOUT_S
        return clock.monotonic() < self._give_up_at

    def _living(self) -> list[ProcessStatus]:
        holds_pid = is_alive(self.identity) or (
            self._child is not None and self._child.returncode is None
        )
        return attempt_processes(self.home, session=self.identity.pid if holds_pid else None)

    def _signal(self, processes: Sequence[ProcessStatus], number: signal.Signals) -> None:
        for process in processes:
            send_signal(process.pid, process.start_time, number)


class Ending(Protocol):
    """Is what can be ended: a stage's process, or an attempt that a worker executes."""

    @property
    def identity(self) -> ProcessIdentity: ...

    @property
    def is_running(self) -> bool: ...

    def end(self, *, grace_s: float) -> None: ...

    def is_gone(self) -> bool: ...


def end_now(process: Ending) -> None:
    """Ends it and waits until it is gone. Raises HalosError if it lives on."""
    deadline = clock.monotonic() + KILL_TIMEOUT_S
    process.end(grace_s=0.0)
    while not process.is_gone():
        if clock.monotonic() > deadline:
            raise HalosError(f"process {process.identity.pid} and its children cannot be killed")
        time.sleep(POLL_S)


def open_pidfd(process: Ending) -> int | None:
    """Opens a descriptor that wakes at the end of that very process; None where it is gone."""
    try:
        fd = os.pidfd_open(process.identity.pid)
    except OSError:
        return None
    if process.is_running:
        return fd
    os.close(fd)
    return None


def kill_attempt(attempt_dir: Path) -> None:
    """Kills what runs for an attempt that nobody watches. Raises HalosError if it lives on."""
    deadline = clock.monotonic() + KILL_TIMEOUT_S
    while living := attempt_processes(attempt_dir):
        if clock.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in living)
            raise HalosError(f"processes of {attempt_dir} cannot be killed: {pids}")
        for process in living:
            send_signal(process.pid, process.start_time, signal.SIGKILL)
        time.sleep(POLL_S)


def attempt_processes(attempt_dir: Path, *, session: int | None = None) -> list[ProcessStatus]:
    """Returns the living processes of an attempt: with its tag, of the session, orphans;
    descendants too.

    Name a session only while its leader's pid cannot have been given to another process. Orphans
    that carry no tag are found by a supervisor only; see `subreaper`.
    """
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    running = {status.pid: status for pid in pids if (status := process_status(pid))}
    found = stray_pids(running, attempt_dir)
    found |= {
        pid
        for pid, status in running.items()
        if status.session == session or attempt_tag(pid) == str(attempt_dir)
    }
    while more := {
        pid for pid, status in running.items() if status.parent in found and pid not in found
    }:
        found |= more
    return [running[pid] for pid in found if running[pid].is_alive and pid != os.getpid()]


def _prefer_as_oom_victim(pid: int) -> None:
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(OOM_SCORE_ADJ))
