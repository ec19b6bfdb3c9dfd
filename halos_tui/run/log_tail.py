"""Reads the end of a stage's output; it stands alone so that `RunReader` only joins its parts.

The stage is the one that runs, or ran last.
"""

from __future__ import annotations

from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState

from halos_tui.logs.blocks import LogSizes
from halos_tui.logs.file import LogFile
from halos_tui.run.view import LogView
from halos_tui.tracking.rounds import place

NUM_LINES = 60
MOST_CHARACTERS = 400
SIZES = LogSizes(block=1 << 14, shown=1 << 12)


class RunLog:
    """`view` is as of the last `read`."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._about: tuple[int, str, int] | None = None
        self._file: LogFile | None = None
        self._seen: tuple[int, int] | None = None
        self.view = LogView()

    def read(self, state: RunState) -> None:
        self._turn_to(state)
        if self._file is None or self._about is None:
            return
        status = self._file.refresh()
        seen = (status.generation, status.num_bytes)
        if seen == self._seen and status.problem == self.view.problem:
            return
        self._seen = seen
        round, stage, attempt = self._about
        again = f", attempt {attempt}" if attempt > 1 else ""
        lines = [line.text[:MOST_CHARACTERS] for line in self._file.last_page(NUM_LINES)]
        self.view = LogView(
            f"{stage} of {place(state, round)}{again}", tuple(lines), status.problem
        )

    def _turn_to(self, state: RunState) -> None:
        """Turns to the newest attempt of all."""
        attempts = [
            (stage.started_t, (round.round, stage.stage, stage.attempt))
            for round in state.rounds[-2:]
            for stage in round.stages.values()
        ]
        about = max(attempts)[1] if attempts else None
        if about == self._about:
            return
        self._about, self._seen = about, None
        if self._file is not None:
            self._file.close()
        self._file = None
        if about is not None:
            self._file = LogFile(self._run_dir.attempt(*about).log, sizes=SIZES)
