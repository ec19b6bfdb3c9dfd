"""Tells the owner, by a command of theirs, that the run stopped or needs them.

The command gets one JSON object and a newline on standard input:

    {"occasion": "paused",            also "failed", "guard", "completed"
     "run": "a-run",                  its name
     "path": "/.../runs/a-run",       its directory
     "status": "paused",              the run's, with the event in effect
     "text": "run a-run is paused: interrupted",
     "event": {"type": "RunPaused", "t": 1700000000.0, "reason": "interrupted"}}

Nothing that it does or fails to do reaches the run: it is started and forgotten, and `messenger`
ends it after `notify.timeout_s`, whether or not the supervisor is still there. What it prints goes
to supervisor.log.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping

import msgspec

from halos_backend import clock
from halos_backend.config.notify import NotifySettings, Occasion, occasion_of
from halos_backend.events import GuardTripped, RunCompleted, RunEvent, RunFailed, RunPaused
from halos_backend.interpreters.programs import ATTEMPT_TAG, SAFE_PATH
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState
from halos_backend.supervisor import messenger

POLL_S = 0.02


class Message(msgspec.Struct, frozen=True):
    """Is what the command reads; see the module."""

    occasion: Occasion
    run: str
    path: str
    status: str
    text: str
    event: RunEvent


class Notifier:
    """Starts the notifications of one run."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._started: list[subprocess.Popen[bytes]] = []

    def notify(self, event: RunEvent, state: RunState, settings: NotifySettings) -> None:
        """Starts the command if `event` is an occasion for it. `state` has the event in it."""
        occasion = occasion_of(event)
        if occasion is None or occasion not in settings.on or not settings.command:
            return
        message = Message(
            occasion=occasion,
            run=self._run_dir.name,
            path=str(self._run_dir.path),
            status=state.status,
            text=f"run {self._run_dir.name} {_news(event)}",
            event=event,
        )
        try:
            self._started.append(self._start(message, settings))
        except (OSError, ValueError) as error:  # no memory or processes left, say
            messenger.say(f"{settings.command[0]} ({occasion}) cannot be started: {error}")

    def poll(self) -> None:
        """Takes in the messengers that ended, so that they do not stay zombies."""
        self._started = [child for child in self._started if child.poll() is None]

    def finish(self, limit_s: float) -> None:
        """Waits for the commands, but not for longer; those that take longer go on alone.

        This is for containers, which end with their first process.
        """
        deadline = clock.monotonic() + limit_s
        self.poll()
        while self._started and clock.monotonic() < deadline:
            time.sleep(POLL_S)
            self.poll()

    def _start(self, message: Message, settings: NotifySettings) -> subprocess.Popen[bytes]:
        with (
            os.fdopen(os.memfd_create("notification"), "w+b") as content,
            self._run_dir.supervisor_log.open("ab") as log,
        ):
            content.write(msgspec.json.encode(message) + b"\n")
            content.seek(0)
            return subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", messenger.__file__),
                    *(str(settings.timeout_s), message.occasion, "--", *settings.command),
                ],
                cwd=self._run_dir.path,
                env=_environment(self._run_dir, os.environ),
                stdin=content,
                stdout=log,
                stderr=log,
                process_group=0,  # and no session of its own: see `subreaper`
            )


def _news(event: RunEvent) -> str:
    match event:
        case RunPaused(reason=reason):
            return f"is paused: {reason}"
        case RunFailed(reason=reason):
            return f"failed: {reason}"
        case RunCompleted(reason=reason):
            return f"completed: {reason}"
        case GuardTripped(reason=reason, round=round):
            return f"round {round}: {reason}"
        case _:
            return type(event).__name__


def _environment(run_dir: RunDir, environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the owner's environment, with a tag by which what the command leaves is not taken for
    a stage's.
    """
    made = {**environment, ATTEMPT_TAG: str(run_dir.path / "notify")}
    made.pop(SAFE_PATH, None)  # the supervisor's own; a script may import its neighbours
    return made
