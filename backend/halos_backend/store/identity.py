"""Tells processes apart: a pid alone is never trusted, because it is given out again."""

from __future__ import annotations

import os
import signal
import socket
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from halos_backend.events import ProcessIdentity
from halos_backend.records import BAD_JSON
from halos_backend.store.run_dir import RunDir


@cache
def boot_id() -> str:
    """Returns a name that changes with every boot of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> ProcessIdentity:
    """Returns the identity of a living process of this host. Raises ProcessLookupError."""
    found = process_status(pid)
    if found is None:
        raise ProcessLookupError(f"no process {pid}")
    return ProcessIdentity(
        pid=pid, start_time=found.start_time, boot_id=boot_id(), host=socket.gethostname()
    )


def own_identity() -> ProcessIdentity:
    return identify(os.getpid())


def is_alive(identity: ProcessIdentity) -> bool:
    """Says whether that very process runs on this host; a zombie does not."""
    if identity.boot_id != boot_id() or identity.host != socket.gethostname():
        return False
    found = process_status(identity.pid)
    return found is not None and found.start_time == identity.start_time and found.is_alive


class ProcessStatus(NamedTuple):
    """Holds what proc(5) says of one process; `start_time` in seconds from boot."""

    pid: int
    parent: int
    session: int
    start_time: float
    is_alive: bool


def process_status(pid: int) -> ProcessStatus | None:
    """Returns the process of this host that has the pid now; a zombie is found, but not alive."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # the second field is the program's name in parentheses: any bytes, parentheses and blanks too
    fields = stat[stat.rindex(b")") + 2 :].split()
    return ProcessStatus(
        pid=pid,
        parent=int(fields[1]),
        session=int(fields[3]),
        start_time=int(fields[19]) / os.sysconf("SC_CLK_TCK"),
        is_alive=fields[0] not in (b"Z", b"X"),
    )


def send_signal(pid: int, start_time: float, number: signal.Signals) -> bool:
    """Signals that very process; False where it is gone, whoever has its pid now."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        status = process_status(pid)
        if status is None or status.start_time != start_time:
            return False
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def recorded_holder(run_dir: RunDir) -> ProcessIdentity | None:
    """Returns the supervisor that wrote itself into the lock file last, alive or not, here or
    elsewhere.
    """
    try:
        return msgspec.json.decode(run_dir.lock.read_bytes(), type=ProcessIdentity)
    except (OSError, *BAD_JSON):
        return None


def lock_holder(run_dir: RunDir) -> ProcessIdentity | None:
    """Returns the supervisor that wrote itself into the lock file, if it lives on this host."""
    holder = recorded_holder(run_dir)
    return holder if holder is not None and is_alive(holder) else None
