"""Owns requests to a supervisor: small files dropped into `control/`, moved aside when answered."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from halos_backend import atomic, clock
from halos_backend.records import BAD_JSON
from halos_backend.store.run_dir import RunDir

MAX_REQUEST_BYTES = 64 * 1024

At = Literal["round", "stage"]
When = Literal["now", "stage", "round"]
SOONEST_FIRST: tuple[When, ...] = ("now", "stage", "round")

RequestId = Annotated[str, msgspec.Meta(pattern="^[0-9A-Za-z_-]{1,64}$")]


class RequestBase(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Says who asks (`by`), for the record."""

    request_id: RequestId
    by: Annotated[str, msgspec.Meta(max_length=200)] = ""


class Pause(RequestBase, frozen=True, tag="pause"):
    """Asks the run to stop at the next boundary, let the GPUs go, and wait."""

    at: At = "round"


class Resume(RequestBase, frozen=True, tag="resume"):
    """Asks the run to go on."""


class Retry(RequestBase, frozen=True, tag="retry"):
    """Asks the run to start the failed stage again."""


class Set(RequestBase, frozen=True, tag="set"):
    """Asks to change settings from a round on, by default the next: `KEY=VALUE` as for --set."""

    assignments: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=200)]
    from_round: int | None = None


class Extend(RequestBase, frozen=True, tag="extend"):
    """Asks a run that has ended to go on for more rounds."""

    num_rounds: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    assignments: Annotated[tuple[str, ...], msgspec.Meta(max_length=200)] = ()


class Abort(RequestBase, frozen=True, tag="abort"):
    """Asks the run to stop for good: now, or when the stage or round at hand is done."""

    when: When = "now"


Request = Pause | Resume | Retry | Set | Extend | Abort


@dataclass(frozen=True)
class Unreadable:
    """Stands for a file in `control/` that is no request."""

    reason: str


_decoder = msgspec.json.Decoder(Request)


def new_request_id() -> str:
    return uuid.uuid4().hex[:12]


def send(run_dir: RunDir, request: Request) -> None:
    """Drops a request; the supervisor answers by an event that carries its `request_id`."""
    name = f"{time.time_ns()}-{request.request_id}.json"
    run_dir.control.mkdir(mode=0o700, exist_ok=True)
    atomic.write_bytes(run_dir.control / name, msgspec.json.encode(request) + b"\n")


def pending(run_dir: RunDir) -> list[tuple[Path, Request | Unreadable]]:
    """Returns unanswered request files, oldest first, whatever they hold."""
    return _requests_in(run_dir.control)


def filed(run_dir: RunDir) -> list[tuple[Path, Request | Unreadable]]:
    """Returns the files of answered requests, oldest first."""
    return _requests_in(run_dir.answered)


def file_away(run_dir: RunDir, path: Path) -> None:
    """Moves an answered request out of the way; one that cannot be moved stays."""
    with contextlib.suppress(OSError):
        run_dir.answered.mkdir(mode=0o700, exist_ok=True)
        path.rename(run_dir.answered / path.name)


def wait_for_answer(run_dir: RunDir, request_id: str, *, timeout_s: float) -> bool:
    """Waits until the request was filed away; says whether it was in time."""
    deadline = clock.monotonic() + timeout_s
    while clock.monotonic() < deadline:
        if any(run_dir.answered.glob(f"*-{request_id}.json")):
            return True
        time.sleep(0.02)
    return False


def _requests_in(folder: Path) -> list[tuple[Path, Request | Unreadable]]:
    try:
        paths = sorted(folder.glob("[0-9]*.json"))
    except OSError:
        return []
    return [(path, _read(path)) for path in paths]


def _read(path: Path) -> Request | Unreadable:
    try:
        request: Request = _decoder.decode(read_regular_file(path, MAX_REQUEST_BYTES))
    except OSError as error:
        return Unreadable(f"it cannot be read: {error.strerror}")
    except BAD_JSON as error:
        return Unreadable(f"it is no request: {error}")
    return request


def read_regular_file(path: Path, max_bytes: int) -> bytes:
    """Reads a file that anybody may have put there: a link, a pipe or a device is neither followed
    nor waited for. Raises OSError, also for more bytes.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if status.st_size > max_bytes:
            raise OSError(errno.EFBIG, f"over {max_bytes} bytes")
        return os.read(fd, max_bytes)
    finally:
        os.close(fd)
