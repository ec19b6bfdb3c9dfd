"""Follows a run until it stops, or until the person leaves; the run never depends on it.

A run that its owner follows gets a new supervisor when it lost the old one, a few times at most.
The terminal's bell rings when the run stops or needs its owner.
"""

from __future__ import annotations

import contextlib
import errno
import sys
import time
from collections.abc import Iterable
from typing import Protocol

import msgspec
from halos_backend import clock
from halos_backend.client import start
from halos_backend.client.ask import asker
from halos_backend.config.notify import occasion_of
from halos_backend.errors import ExitCode, RunInUseError
from halos_backend.events import (
    AttemptEvent,
    AttemptFailed,
    MetricsLogged,
    PhaseChanged,
    ProcessIdentity,
    Progressed,
    RoundFinished,
    RoundStarted,
    RunEvent,
    StageFinished,
)
from halos_backend.store import requests
from halos_backend.store.identity import is_alive
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import AT_WORK, RunState

from halos_tui.headless import notices
from halos_tui.headless.interrupts import Signals, ask, types
from halos_tui.headless.streams import silence_stdout
from halos_tui.tracking.run_tail import RunTail
from halos_tui.tracking.status import SeenStatus, Supervision, supervision_of

POLL_S = 0.1
GONE_LIMIT_S = 0.8
"""A supervisor that is gone for so long without a last word in the journal is lost.

Its guardian has this time to replace it."""
LINGER_LIMIT_S = 5.0
"""A supervisor may take so long to leave after its last word; resume is refused until then."""

MOST_REVIVALS = 5
"""So many new supervisors are started without progress in between; more would be a loop."""
PROGRESS = (RoundStarted, Progressed, MetricsLogged, StageFinished, RoundFinished)


class Output(Protocol):
    """Draws a followed run on standard output."""

    def show(
        self, events: list[RunEvent | AttemptEvent], tail: RunTail, *, status: SeenStatus
    ) -> None:
        """Draws what is new; it is called many times a second, mostly with nothing."""

    def hide(self) -> None:
        """Makes room for a question on the same terminal."""

    def close(self) -> None:
        """Leaves the last picture behind; a second call does nothing."""


class Follower:
    """Follows one run for one person or program.

    With `owns` Ctrl-C may stop the run, and a supervisor that is lost is replaced; without it one
    only looks. With `asks` somebody can answer. With `pauses_on_term` SIGTERM stops the run first.
    """

    def __init__(
        self,
        tail: RunTail,
        output: Output,
        signals: Signals,
        *,
        owns: bool,
        asks: bool,
        pauses_on_term: bool = False,
    ) -> None:
        self._tail = tail
        self._run_dir = tail.run_dir
        self._output = output
        self._signals = signals
        self._owns = owns
        self._asks = asks
        self._pauses_on_term = pauses_on_term
        self._reviver = Reviver(tail.run_dir)
        self._bell = Bell()
        self._seen_interrupts = 0
        self._is_stopping = False
        self._has_told_of_stall = False
        self._interrupted: ProcessIdentity | None = None
        self._gone_since: float | None = None
        self._stopped_since: float | None = None

    def follow(self) -> ExitCode:
        """Returns the exit code of how the run stands when it stopped or was left."""
        try:
            while True:
                code = self._look()
                if code is not None:
                    return code
                time.sleep(POLL_S)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            # nobody reads the output any more, which is no reason to stop a run
            silence_stdout()
            return ExitCode.UNFINISHED
        finally:
            self._output.close()

    def _look(self) -> ExitCode | None:
        supervision = supervision_of(self._run_dir)  # read before the journal's last event
        events = self._tail.read()
        self._reviver.see(events)
        status = supervision.status_of(self._tail.state)
        # "lost" for a moment is no more than one supervisor that replaces another
        self._output.show(
            events, self._tail, status=self._tail.state.status if status == "lost" else status
        )
        self._bell.hear(events, self._tail.state)
        self._tell_of_stall(supervision, is_stalled=status == "stalled")
        code = self._end(supervision)
        return self._heed_signals(supervision) if code is None else code

    def _end(self, supervision: Supervision) -> ExitCode | None:
        """Returns the exit code once nothing more will happen."""
        state, now = self._tail.state, clock.monotonic()
        has_supervisor = supervision.supervisor is not None
        if state.status in ("created", *AT_WORK):
            self._stopped_since = None
            self._gone_since = None if has_supervisor else self._gone_since or now
            if self._gone_since is None or now - self._gone_since < GONE_LIMIT_S:
                return None
            return self._after_loss()
        # a resumed run is paused or failed until its supervisor says otherwise
        self._stopped_since = self._stopped_since or now
        if has_supervisor and now - self._stopped_since < LINGER_LIMIT_S:
            return None
        self._output.close()
        notices.say_end(self._run_dir, state)
        return state.exit_code

    def _after_loss(self) -> ExitCode | None:
        if self._owns and not self._reviver.has_given_up:
            self._output.hide()
            notices.say_revival(self._run_dir, self._reviver.num_revivals + 1, MOST_REVIVALS)
            self._reviver.revive()
            self._gone_since = None
            return None
        self._output.close()
        notices.say_lost(self._run_dir)
        return ExitCode.UNFINISHED

    def _tell_of_stall(self, supervision: Supervision, *, is_stalled: bool) -> None:
        if is_stalled == self._has_told_of_stall:
            return
        self._has_told_of_stall = is_stalled
        self._output.hide()
        notices.say_stall(self._run_dir, supervision)

    def _heed_signals(self, supervision: Supervision) -> ExitCode | None:
        if self._signals.hung_up or self._signals.terminations > int(self._pauses_on_term):
            self._output.close()
            return ExitCode.UNFINISHED
        if self._signals.terminations:
            self._pause(supervision.supervisor)
        if self._signals.interrupts == self._seen_interrupts:
            return None
        self._seen_interrupts = self._signals.interrupts
        if not self._owns:
            self._output.close()
            return self._tail.state.exit_code
        if not self._asks or self._is_stopping:
            return self._detach()
        return self._ask()

    def _pause(self, supervisor: ProcessIdentity | None) -> None:
        """Stops the run now, so that it can be resumed; also one that is revived meanwhile."""
        if supervisor is None or supervisor == self._interrupted:
            return
        self._interrupted = supervisor
        self._output.hide()
        self._stop("told to end: stopping the run, so that it can be resumed")
        if is_alive(supervisor):
            start.interrupt_supervisor(self._run_dir)
        else:  # the supervisor runs on another host
            request_id = requests.new_request_id()
            requests.send(
                self._run_dir, requests.Pause(request_id=request_id, by=asker(), at="stage")
            )

    def _ask(self) -> ExitCode | None:
        self._output.hide()
        answer = ask(self._signals, notices.question(self._run_dir))
        self._seen_interrupts = self._signals.interrupts
        match answer:
            case "abort" if types(self._signals, "abort", notices.last_question(self._run_dir)):
                request_id = requests.new_request_id()
                requests.send(self._run_dir, requests.Abort(request_id=request_id, by=asker()))
                self._stop("aborting; Ctrl-C leaves without waiting for it")
            case "pause":
                start.interrupt_supervisor(self._run_dir)
                self._stop("stopping; Ctrl-C leaves without waiting for it")
            case "detach":
                return self._detach()
            case _ if not (self._signals.terminations or self._signals.hung_up):
                self._seen_interrupts = self._signals.interrupts
                notices.say("the run goes on")
        return None

    def _stop(self, text: str) -> None:
        self._is_stopping = True
        notices.say(text)

    def _detach(self) -> ExitCode:
        self._output.close()
        notices.say_detached(self._run_dir)
        return ExitCode.UNFINISHED


class Reviver:
    """Starts supervisors, and counts those since the run last got further."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self.num_revivals = 0

    def see(self, events: Iterable[RunEvent | AttemptEvent]) -> None:
        """Notes what happened meanwhile."""
        if any(isinstance(event, PROGRESS) for event in events):
            self.num_revivals = 0

    @property
    def has_given_up(self) -> bool:
        return self.num_revivals >= MOST_REVIVALS

    def revive(self) -> None:
        """Starts a supervisor. Raises HalosError, with its log, when it does not start."""
        self.num_revivals += 1
        with contextlib.suppress(RunInUseError):  # somebody else was faster
            start.start_supervisor(self._run_dir)


class Bell:
    """Rings once for all that one look finds, where `notify.bell` is set and a terminal is there.

    The first look is silent: what it finds may be long past.
    """

    def __init__(self) -> None:
        self._has_looked = False

    def hear(self, events: Iterable[RunEvent | AttemptEvent], state: RunState) -> None:
        is_first, self._has_looked = not self._has_looked, True
        notify = state.settings_of(state.round_at_hand).get("notify", {})
        if is_first or not notify.get("bell"):
            return
        if any(occasion_of(event) in notify["on"] for event in events) and sys.stderr.isatty():
            sys.stderr.write("\a")
            sys.stderr.flush()


LEFT_OUT = (PhaseChanged, Progressed, AttemptFailed)
"""These events are worthless once past; why an attempt failed is in StageFailed."""


class JsonLines:
    """Writes one object per line to standard output, each batch as soon as it is there."""

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder()

    def show(
        self,
        events: list[RunEvent | AttemptEvent],
        tail: RunTail,  # noqa: ARG002
        *,
        status: SeenStatus,  # noqa: ARG002
    ) -> None:
        for event in events:
            if not isinstance(event, LEFT_OUT):
                sys.stdout.write(self._encoder.encode(event).decode() + "\n")
        sys.stdout.flush()

    def hide(self) -> None:
        """Does nothing: there is nothing to put away before a question."""

    def close(self) -> None:
        sys.stdout.flush()
