"""A supervisor that only answers requests, in a thread of the test; no process, no stages."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from halos_backend.client import start
from halos_backend.events import RequestRejected
from halos_backend.store import requests
from halos_backend.store.registry import load_state
from halos_backend.store.writer import EventWriter
from halos_backend.supervisor.requests import answer

from tests.support.made_run import MadeRun
from tests.support.waiting import wait_for


def wait_for_guardians() -> None:
    """Those that this process started, so that none is left to the interpreter's end."""
    wait_for(lambda: all(child.poll() is not None for child in start._started))


class Answering:
    """Answers as the real one does, or refuses everything for a reason; keeps what it was asked.

    While `may_answer` is not set it keeps the person waiting.
    """

    def __init__(self, run: MadeRun, *, refusal: str = "") -> None:
        self.run = run
        self.requests: list[requests.Request] = []
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
                for path, request in requests.pending(self.run.dir):
                    self._answer(request)
                    requests.file_away(self.run.dir, path)

    def _answer(self, request: requests.Request | requests.Unreadable) -> None:
        assert not isinstance(request, requests.Unreadable), request
        self.requests.append(request)
        now = time.time()
        event = answer(request, load_state(self.run.dir), now, self.run.dir)
        if self._refusal:
            event = RequestRejected(t=now, request_id=request.request_id, reason=self._refusal)
        with EventWriter(self.run.dir.events) as writer:
            writer.append(event)
