"""Follows a run until it stops, or until the person leaves; the run never depends on it."""

from __future__ import annotations

import errno
import time
from typing import Protocol

from halos_backend import clock
from halos_backend.errors import ExitCode
from halos_backend.events import AttemptEvent, RunEvent
from halos_backend.supervisor import control, spawn

from halos_tui.headless import notices
from halos_tui.headless.interrupts import Signals, ask
from halos_tui.observed import living_supervisor
from halos_tui.streams import silence_stdout
from halos_tui.tailing import RunTail

POLL_S = 0.1
GONE_LIMIT_S = 1.0
"""A supervisor that is gone for this long without a last word in the journal is lost."""
LINGER_LIMIT_S = 5.0
"""How long a supervisor may take to leave after its last word; resume is refused until then."""


class Output(Protocol):
    """Draws a followed run on standard output."""

    def show(self, events: list[RunEvent | AttemptEvent], tail: RunTail) -> None:
        """Draw what is new; called many times a second, mostly with nothing."""

    def hide(self) -> None:
        """Make room for a question on the same terminal."""

    def close(self) -> None:
        """Leave the last picture behind; once more does nothing."""


class Follower:
    """One person's (or program's) look at one run.

    With `owns` Ctrl-C may stop the run, without it only leaves. With `asks` somebody can answer.
    """

    def __init__(
        self, tail: RunTail, output: Output, signals: Signals, *, owns: bool, asks: bool
    ) -> None:
        self._tail = tail
        self._run_dir = tail.run_dir
        self._output = output
        self._signals = signals
        self._owns = owns
        self._asks = asks
        self._seen_interrupts = 0
        self._is_stopping = False
        self._gone_since: float | None = None
        self._stopped_since: float | None = None

    def follow(self) -> ExitCode:
        """Returns the exit code of how the run stands when it stopped or was left."""
        try:
            while True:
                has_supervisor = living_supervisor(self._run_dir) is not None
                self._output.show(self._tail.read(), self._tail)
                code = self._end(has_supervisor=has_supervisor)
                if code is None:
                    code = self._heed_signals()
                if code is not None:
                    return code
                time.sleep(POLL_S)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            # whoever read us is gone, which is no reason to stop a run
            silence_stdout()
            return ExitCode.UNFINISHED
        finally:
            self._output.close()

    def _end(self, *, has_supervisor: bool) -> ExitCode | None:
        """The exit code once nothing more will happen."""
        state, now = self._tail.state, clock.monotonic()
        if state.status in ("created", "running", "aborting"):
            self._stopped_since = None
            if has_supervisor:
                self._gone_since = None
                return None
            self._gone_since = self._gone_since or now
            if now - self._gone_since < GONE_LIMIT_S:
                return None
            self._output.close()
            notices.say_lost(self._run_dir)
            return ExitCode.UNFINISHED
        # a resumed run is paused or failed until its supervisor says otherwise
        self._stopped_since = self._stopped_since or now
        if has_supervisor and now - self._stopped_since < LINGER_LIMIT_S:
            return None
        self._output.close()
        notices.say_end(self._run_dir, state)
        return state.exit_code

    def _heed_signals(self) -> ExitCode | None:
        if self._signals.hung_up:
            self._output.close()
            return ExitCode.UNFINISHED
        if self._signals.interrupts == self._seen_interrupts:
            return None
        self._seen_interrupts = self._signals.interrupts
        if not self._owns:
            self._output.close()
            return self._tail.state.exit_code
        if not self._asks or self._is_stopping:
            return self._detach()
        return self._ask()

    def _ask(self) -> ExitCode | None:
        self._output.hide()
        answer = ask(self._signals, notices.question(self._run_dir))
        self._seen_interrupts = self._signals.interrupts
        match answer:
            case "abort":
                control.send(self._run_dir, control.Abort(request_id=control.new_request_id()))
                self._stop("aborting; Ctrl-C leaves without waiting for it")
            case "pause":
                spawn.interrupt_supervisor(self._run_dir)
                self._stop("stopping; Ctrl-C leaves without waiting for it")
            case "detach":
                return self._detach()
            case "go on":
                notices.say("the run goes on")
        return None

    def _stop(self, text: str) -> None:
        self._is_stopping = True
        notices.say(text)

    def _detach(self) -> ExitCode:
        self._output.close()
        notices.say_detached(self._run_dir)
        return ExitCode.UNFINISHED
