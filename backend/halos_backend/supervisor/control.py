"""Requests to a run's supervisor: small files dropped into `control/`, moved aside when answered."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import msgspec

from halos_backend import atomic, clock
from halos_backend.store.run_dir import RunDir

MAX_REQUEST_BYTES = 64 * 1024


class Abort(msgspec.Struct, frozen=True, tag_field="type", tag="abort"):
    """Stop for good, now."""

    request_id: str


Request = Abort

_decoder = msgspec.json.Decoder(Request)


def new_request_id() -> str:
    return uuid.uuid4().hex[:12]


def send(run_dir: RunDir, request: Request) -> None:
    """Drop a request; the supervisor answers by an event that carries its `request_id`."""
    name = f"{time.time_ns()}-{request.request_id}.json"
    run_dir.control.mkdir(mode=0o700, exist_ok=True)
    atomic.write_bytes(run_dir.control / name, msgspec.json.encode(request) + b"\n")


def pending(run_dir: RunDir) -> list[tuple[Path, Request | None]]:
    """Unanswered request files, oldest first; None for what is no request."""
    try:
        paths = sorted(path for path in run_dir.control.glob("[0-9]*.json") if path.is_file())
    except OSError:
        return []
    return [(path, _read(path)) for path in paths]


def file_away(run_dir: RunDir, path: Path) -> None:
    """Move an answered request out of the way."""
    run_dir.answered.mkdir(mode=0o700, exist_ok=True)
    path.replace(run_dir.answered / path.name)


def wait_for_answer(run_dir: RunDir, request_id: str, *, timeout_s: float) -> bool:
    """Whether the request was filed away in time."""
    deadline = clock.monotonic() + timeout_s
    while clock.monotonic() < deadline:
        if any(run_dir.answered.glob(f"*-{request_id}.json")):
            return True
        time.sleep(0.02)
    return False


def _read(path: Path) -> Request | None:
    try:
        if path.is_symlink() or path.stat().st_size > MAX_REQUEST_BYTES:
            return None
        return _decoder.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
