"""Owns the files by which runs of one user on one host agree about GPUs: one lock per GPU.

They lie where every process of the user finds them, whatever session or cron job it comes from:
$XDG_RUNTIME_DIR would be another place for each, and is emptied at log-out. The kernel lets a lock
go with the process that holds it; the record in the file says who that is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import msgspec

from halos_backend.errors import HalosError
from halos_backend.events import ProcessIdentity
from halos_backend.records import BAD_JSON
from halos_backend.store.identity import is_alive, own_identity
from halos_backend.supervisor.processes.subreaper import attempt_tag

RUNTIME_DIR = "HALOS_RUNTIME_DIR"
SHARED_DIR = Path("/tmp")
"""Is where the user's own directory is made; that it is theirs is checked."""


class Holder(msgspec.Struct, frozen=True):
    """Says whose a GPU is: the run's directory and its supervisor."""

    run: str
    process: ProcessIdentity


@dataclass(frozen=True)
class DeviceLock:
    """Is a lock that this process holds."""

    device: str
    fd: int

    def release(self) -> None:
        """Lets the GPU go, with nothing left to ask about."""
        with contextlib.suppress(OSError):
            os.ftruncate(self.fd, 0)
        os.close(self.fd)


def runtime_dir() -> Path:
    """Returns the user's directory for these files; it is made if need be, and nobody else's.

    Raises HalosError where it is not safe.
    """
    configured = os.environ.get(RUNTIME_DIR)
    path = Path(configured) if configured else SHARED_DIR / f"halos-tui-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700, parents=bool(configured))
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise HalosError(
            f"{path} is not this user's directory, so GPUs cannot be reserved: have it removed, or"
            f" set {RUNTIME_DIR}"
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise HalosError(
            f"others can reach {path}, so GPUs cannot be reserved in it: chmod 700 {path}"
        )
    return path


def device_file(device: str) -> Path:
    """Returns the file of a GPU, by its name."""
    folder = runtime_dir() / "devices"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{device.replace('/', '_')}.lock"


def take_device(device: str, run: Path) -> DeviceLock | Holder | None:
    """Returns the GPU's lock for the run, or who has it; None where that cannot be told.

    A GPU whose supervisor was killed is still that run's while a stage of it works there.
    """
    path = device_file(device)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return read_holder(device)
    except OSError as error:
        os.close(fd)
        raise HalosError(
            f"{path} cannot be locked: {error.strerror}", fix=f"set {RUNTIME_DIR}"
        ) from error
    before = _decode(os.pread(fd, 4096, 0))
    if before is not None and before.run != str(run) and has_living_stages(Path(before.run)):
        os.close(fd)
        return before
    os.ftruncate(fd, 0)
    os.pwrite(fd, msgspec.json.encode(Holder(str(run), own_identity())) + b"\n", 0)
    return DeviceLock(device, fd)


def read_holder(device: str) -> Holder | None:
    """Returns who wrote itself into the GPU's file last, alive or not."""
    try:
        return _decode(device_file(device).read_bytes())
    except OSError:
        return None


def holds_now(holder: Holder) -> bool:
    """Says whether the supervisor lives, or a stage that it left behind."""
    return is_alive(holder.process) or has_living_stages(Path(holder.run))


def has_living_stages(run: Path) -> bool:
    """Says whether a process of this host carries the tag of one of the run's attempts."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return any((tag := attempt_tag(pid)) and Path(tag).is_relative_to(run) for pid in pids)


def _decode(content: bytes) -> Holder | None:
    try:
        return msgspec.json.decode(content, type=Holder)
    except BAD_JSON:
        return None
