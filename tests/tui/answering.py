"""A supervisor that only answers requests, in a thread of the test; no process, no stages."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from halos_backend.events import RequestRejected
from halos_backend.store.registry import load_state
from halos_backend.store.writer import EventWriter
from halos_backend.supervisor import control, spawn
from halos_backend.supervisor.answers import answer

from tests.backend.deadline import wait_until
from tests.headless.made_run import MadeRun


def wait_for_guardians() -> None:
    """Those that this process started, so that none is left to the interpreter's end."""
    wait_until(lambda: all(child.poll() is not None for child in spawn._started))


class Answering:
    """Answers as the real one does, or refuses everything for a reason; keeps what it was asked.

    While `may_answer` is not set it keeps the person waiting.
    """

    def __init__(self, run: MadeRun, *, refusal: str = "") -> None:
        self.run = run
        self.requests: list[control.Request] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._refusal = refusal
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> Answering:
        self.run.supervised()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_stopped.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._is_stopped.wait(0.01):
            self.run.dir.heartbeat.touch()
            if self.may_answer.is_set():
                for path, request in control.pending(self.run.dir):
                    self._answer(request)
                    control.file_away(self.run.dir, path)

    def _answer(self, request: control.Request | control.Unreadable) -> None:
        assert not isinstance(request, control.Unreadable), request
        self.requests.append(request)
        now = time.time()
        event = answer(request, load_state(self.run.dir), now)
        if self._refusal:
            event = RequestRejected(t=now, request_id=request.request_id, reason=self._refusal)
        with EventWriter(self.run.dir.events) as writer:
            writer.append(event)
