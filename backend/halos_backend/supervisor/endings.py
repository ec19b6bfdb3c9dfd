"""What the journal says of a run that has come to its end, or to a stop."""

from __future__ import annotations

from typing import assert_never

from halos_backend import clock
from halos_backend.events import RunAborted, RunCompleted, RunEvent, RunFailed, RunPaused
from halos_backend.store.state import RunState
from halos_backend.supervisor.plan import AbortRun, Ending, FailRun, FinishRun, PauseRun


def told(ending: Ending, state: RunState) -> RunEvent:
    """The event that makes it true, as of now."""
    t = clock.now()
    match ending:
        case PauseRun(reason=reason):
            return RunPaused(t=t, reason=reason)
        case FinishRun(reason=reason):
            return RunCompleted(t=t, reason=reason)
        case FailRun(reason=reason):
            return RunFailed(t=t, reason=reason)
        case AbortRun():
            return RunAborted(t=t, request_id=state.abort_request_id or "")
        case _:
            assert_never(ending)
