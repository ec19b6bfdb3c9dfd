"""Asks a run's supervisor for something and brings its answer back, starting one where none lives.

The supervisor that has nothing to do answers what waits in `control/` and goes; so a paused, failed
or ended run has no process, and can be asked all the same.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import time
from pathlib import Path

import msgspec

from halos_backend import clock
from halos_backend.client import start
from halos_backend.errors import HalosError, RunInUseError, UsageError
from halos_backend.events import AnswerEvent, ProcessIdentity, RunEvent
from halos_backend.store import requests
from halos_backend.store.liveness import describe_stall, living_supervisor, stalled_for_s
from halos_backend.store.reader import JournalReader, run_journal
from halos_backend.store.run_dir import RunDir

ANSWER_TIMEOUT_S = 30.0
PATIENCE_S = 1.0
"""Is how long a supervisor that is stalled when it is asked gets to wake up."""
POLL_S = 0.02
LONGEST_LINE_BYTES = 1 << 20


def asker() -> str:
    """Returns who asks, for the record: `alice@box`."""
    try:
        user = getpass.getuser()
    except (KeyError, ImportError, OSError):  # a uid that no account has, as in containers
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:200]


def ask(
    run_dir: RunDir, request: requests.Request, *, timeout_s: float = ANSWER_TIMEOUT_S
) -> RunEvent:
    """Sends a request and waits for its answer: the event that carries its `request_id`.

    That is a RequestRejected where the supervisor refused. Starts a supervisor when none lives.
    Raises UsageError where the run's files may not be written or the request is none, HalosError
    when no supervisor starts, or the one that lives does not answer: the request then stays.
    """
    check_writable(run_dir)
    _check(request)
    journal = run_journal(run_dir.events, offset=_end_of_lines(run_dir.events))
    try:
        requests.send(run_dir, request)
    except OSError as error:
        raise UsageError(
            f"the run {run_dir.name} cannot be asked: {error.filename or run_dir.control}:"
            f" {error.strerror}"
        ) from error
    begun = clock.monotonic()
    while True:
        supervisor = living_supervisor(run_dir)  # before the journal: its last word is then there
        if (event := _answer(journal, request.request_id)) is not None:
            return event
        waited_s = clock.monotonic() - begun
        if waited_s > timeout_s:
            raise HalosError(_why_no_answer(run_dir, supervisor))
        if supervisor is None:
            with contextlib.suppress(RunInUseError):  # somebody else was faster
                start.start_supervisor(run_dir)
        elif waited_s > PATIENCE_S and stalled_for_s(run_dir, supervisor) is not None:
            raise HalosError(_why_no_answer(run_dir, supervisor))
        time.sleep(POLL_S)


def check_writable(run_dir: RunDir) -> None:
    """Raises UsageError for a run directory that this user or this machine cannot write."""
    if os.access(run_dir.path, os.W_OK | os.X_OK):
        return
    is_read_only = os.statvfs(run_dir.path).f_flag & os.ST_RDONLY
    why = "its disk is mounted read-only" if is_read_only else f"it is {_owner(run_dir.path)}'s"
    raise UsageError(
        f"{run_dir.path} cannot be written: {why}; the run can be looked at, not controlled"
    )


def _check(request: requests.Request) -> None:
    """Raises UsageError for a request that no supervisor would read."""
    content = msgspec.json.encode(request)
    if len(content) >= requests.MAX_REQUEST_BYTES:
        raise UsageError(f"that is too much at once: a request has {requests.MAX_REQUEST_BYTES} B")
    try:
        msgspec.json.decode(content, type=requests.Request)
    except msgspec.ValidationError as error:
        raise UsageError(f"that cannot be asked for: {error}") from error


def _answer(journal: JournalReader[RunEvent], request_id: str) -> RunEvent | None:
    events = (event for event in journal.read() if isinstance(event, AnswerEvent))
    return next((event for event in events if event.request_id == request_id), None)


def _end_of_lines(path: Path) -> int:
    """Returns where the next line of a journal begins; it may be half-written."""
    with path.open("rb") as file:
        start = max(0, file.seek(0, os.SEEK_END) - LONGEST_LINE_BYTES)
        file.seek(start)
        return start + file.read().rfind(b"\n") + 1


def _why_no_answer(run_dir: RunDir, supervisor: ProcessIdentity | None) -> str:
    stays = f"the request stays in {run_dir.control} and is answered once one goes on"
    if supervisor is None:
        return (
            f"no supervisor of {run_dir.name} lives long enough to answer ({run_dir.supervisor_log}"
            f" may say why); {stays}"
        )
    silent_s = stalled_for_s(run_dir, supervisor)
    if silent_s is not None:
        return f"{describe_stall(run_dir, supervisor, silent_s)}; {stays}"
    return (
        f"the supervisor of {run_dir.name} (process {supervisor.pid} on {supervisor.host}) does not"
        f" answer; {stays}"
    )


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, OSError):
        return "another user"
