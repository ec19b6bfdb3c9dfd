"""One plain line for every event of the run journal, and for the warnings of stages."""

from __future__ import annotations

import sys

from halos_backend.events import AttemptEvent, RunEvent, StageEvent

from halos_tui.formatting import clock_time, visible
from halos_tui.headless.lines_run import describe_run_event
from halos_tui.headless.lines_stage import describe_stage_event, log_lines
from halos_tui.run.observed import SeenStatus
from halos_tui.run.rounds import place
from halos_tui.tailing import RunTail


class Lines:
    """Writes the lines to standard output, each as soon as it is there."""

    def show(
        self,
        events: list[RunEvent | AttemptEvent],
        tail: RunTail,
        *,
        status: SeenStatus,  # noqa: ARG002
    ) -> None:
        for event in events:
            for text in describe(event, tail):
                sys.stdout.write(f"{clock_time(event.t)}  {visible(text)}\n")
        sys.stdout.flush()

    def hide(self) -> None:
        """Nothing to put away before somebody is asked something."""

    def close(self) -> None:
        sys.stdout.flush()


def describe(event: RunEvent | AttemptEvent, tail: RunTail) -> list[str]:
    """What happened: a line, none for what only live views show, more where a log's end helps."""
    if not isinstance(event, StageEvent):
        return [describe_run_event(event, tail.state)]
    text = describe_stage_event(event, tail.state)
    if text is None:
        return []
    where = f"{place(tail.state, event.round)} {event.stage}"
    again = f" (attempt {event.attempt})" if event.attempt > 1 else ""
    return [f"{where}{again}: {line}" for line in (text, *log_lines(event, tail.state))]
