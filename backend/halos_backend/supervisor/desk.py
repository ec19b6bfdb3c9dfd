"""Where requests come in: each is answered once, by one event, and filed away."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from halos_backend import clock
from halos_backend.errors import CorruptFileError
from halos_backend.events import RequestRejected, RunEvent
from halos_backend.store.run_dir import RunDir, command_for
from halos_backend.store.state import RunState
from halos_backend.supervisor import control
from halos_backend.supervisor.answers import answer
from halos_backend.supervisor.control import Extend, Resume, Retry


def check_answers(run_dir: RunDir, journal: Iterable[RunEvent]) -> None:
    """Raises CorruptFileError where a request was filed whose answer is not in the journal.

    An answer is on disk before its request is filed. A run that lost one would go on with other
    settings, or though its owner had ended it.
    """
    answered = {getattr(event, "request_id", "") for event in journal}
    for path, request in control.filed(run_dir):
        if isinstance(request, control.Unreadable) or request.request_id in answered:
            continue
        raise CorruptFileError(
            f"{run_dir.events} has lost records: the answer to {path} is not there. Put the whole"
            f" file back; or move that request to {run_dir.control} to have it answered again,"
            f" or delete it, and then: {command_for(run_dir, 'resume')}"
        )


class Desk:
    """The requests of one run. `record` writes an answer down and makes it true. With a `refusal`
    the run cannot go on as things are, and whoever asks for that hears why.

    A request that the journal has answered already is filed, not applied again: an earlier
    supervisor died before it could.
    """

    def __init__(
        self, run_dir: RunDir, journal: Iterable[RunEvent], record: Callable[[RunEvent], None]
    ) -> None:
        self.refusal: str | None = None
        self._run_dir = run_dir
        self._record = record
        self._answered = {getattr(event, "request_id", "") for event in journal}
        self._filed: set[str] = set()

    @property
    def has_requests(self) -> bool:
        return bool(control.pending(self._run_dir))

    def answer_all(self, state: Callable[[], RunState]) -> None:
        """Answer what waits, oldest first; `state` gives the run's state as of now."""
        for path, request in control.pending(self._run_dir):
            if path.name not in self._filed:
                self._filed.add(path.name)  # where `control/` cannot be written the file stays
                self._answer(request, state())
            control.file_away(self._run_dir, path)

    def _answer(self, request: control.Request | control.Unreadable, state: RunState) -> None:
        if not isinstance(request, control.Unreadable):
            if request.request_id in self._answered:
                return
            self._answered.add(request.request_id)
        if self.refusal and isinstance(request, Resume | Retry | Extend):
            rejected = RequestRejected(
                t=clock.now(), request_id=request.request_id, reason=self.refusal
            )
            self._record(rejected)
            return
        self._record(answer(request, state, clock.now()))
