"""Tells processes apart: a pid alone is never trusted, because it is given out again."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path

import msgspec

from halos_backend.events import ProcessIdentity
from halos_backend.store.run_dir import RunDir


@cache
def boot_id() -> str:
    """Changes with every boot of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> ProcessIdentity:
    """The identity of a living process of this host. Raises ProcessLookupError."""
    found = _start_time_and_state(pid)
    if found is None:
        raise ProcessLookupError(f"no process {pid}")
    return ProcessIdentity(
        pid=pid, start_time=found[0], boot_id=boot_id(), host=socket.gethostname()
    )


def own_identity() -> ProcessIdentity:
    return identify(os.getpid())


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether that very process runs on this host; a zombie does not."""
    if identity.boot_id != boot_id() or identity.host != socket.gethostname():
        return False
    found = _start_time_and_state(identity.pid)
    return found is not None and found[0] == identity.start_time and found[1] not in "ZX"


def _start_time_and_state(pid: int) -> tuple[float, str] | None:
    """Seconds from boot to the process's start, and its state letter (proc(5), fields 22 and 3)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK"), fields[0]


def lock_holder(run_dir: RunDir) -> ProcessIdentity | None:
    """The supervisor that wrote itself into the lock file, if it lives."""
    try:
        holder = msgspec.json.decode(run_dir.lock.read_bytes(), type=ProcessIdentity)
    except (OSError, msgspec.DecodeError):
        return None
    return holder if is_alive(holder) else None
