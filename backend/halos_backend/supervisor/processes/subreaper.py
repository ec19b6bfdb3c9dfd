"""Finds and reaps what stages leave behind: orphans become children of their supervisor.

A process that carries no tag, has made a session of its own and lost its parent belongs to no
stage's tree any more. The kernel gives it to the nearest subreaper: to the supervisor, or to the
guardian once the supervisor is dead.

Whatever shares the session of the supervisor or guardian is their own, because stages begin with
sessions of theirs; so the supervisor's own helpers must not be given one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from halos_backend.events import ProcessIdentity
from halos_backend.interpreters.programs import ATTEMPT_TAG
from halos_backend.store.identity import ProcessStatus, process_status
from halos_backend.store.run_dir import run_containing

PR_GET_CHILD_SUBREAPER = 37

_first: dict[tuple[int, float], Path] = {}
"""Maps (pid, start time) of the first process of each stage that is watched to its attempt."""


def watch_first(process: ProcessIdentity, attempt_dir: Path) -> None:
    """Says which attempt a process is the first of: it is no stray of another, and not ours to
    reap.

    Holds until `forget_first`.
    """
    _first[process.pid, process.start_time] = attempt_dir


def forget_first(process: ProcessIdentity) -> None:
    _first.pop((process.pid, process.start_time), None)


def stray_pids(running: Mapping[int, ProcessStatus], attempt_dir: Path) -> set[int]:
    """Returns orphans among all processes `running` that may be this attempt's: none that another
    claims.

    Empty unless this process is a subreaper, as a supervisor is.
    """
    if not is_subreaper():
        return set()
    reapers = {os.getpid()}
    if guards(os.getppid(), attempt_dir):
        reapers.add(os.getppid())
    return {
        pid
        for reaper in reapers & running.keys()
        for pid, status in running.items()
        if status.parent == reaper
        and status.session != running[reaper].session
        and pid != os.getpid()
        and not _is_anothers(status, attempt_dir)
    }


def reap_strays() -> None:
    """Reaps orphans that have ended; never a stage's first process or a helper of our own."""
    if not _has_zombie():
        return
    for pid in _children():
        status = process_status(pid)
        if status is None or status.is_alive or status.session == os.getsid(0):
            continue
        if (pid, status.start_time) not in _first:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def is_subreaper() -> bool:
    """Says whether orphans among this process's descendants become its children."""
    answer = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    return bool(answer.value)


def guards(pid: int, attempt_dir: Path) -> bool:
    """Says whether the process is the guardian of the attempt's run."""
    command = _read_list(pid, "cmdline")
    is_one = any(part.endswith(b"/guardian.py") for part in command)
    return is_one and os.fsencode(run_containing(attempt_dir)) in command


def attempt_tag(pid: int) -> str | None:
    """Returns the attempt directory that a process carries in its environment, if that
    can be read.
    """
    prefix = f"{ATTEMPT_TAG}=".encode()
    for entry in _read_list(pid, "environ"):
        if entry.startswith(prefix):
            return os.fsdecode(entry.removeprefix(prefix))
    return None


def _is_anothers(status: ProcessStatus, attempt_dir: Path) -> bool:
    known = _first.get((status.pid, status.start_time), attempt_dir)
    return known != attempt_dir or attempt_tag(status.pid) not in (None, str(attempt_dir))


def _has_zombie() -> bool:
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def _children() -> Iterator[int]:
    """Yields the children of every thread of this process."""
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            yield from map(int, (task / "children").read_text().split())


def _read_list(pid: int, name: str) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().split(b"\0")
    except OSError:
        return []
