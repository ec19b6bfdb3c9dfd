"""Notices that a stage says nothing any more."""

from __future__ import annotations

from halos_backend import clock
from halos_backend.config.schema import LaunchSettings
from halos_backend.errors import CorruptFileError
from halos_backend.store.live import fold_attempt
from halos_backend.store.reader import attempt_journal
from halos_backend.store.run_dir import AttemptDir

LOOK_EVERY_S = 1.0
OWN_STOP_S = 5.0
"""Looks that are further apart: the supervisor itself was stopped, and silence then is no sign."""


class Silence:
    """How long one attempt's journal has not grown."""

    def __init__(self, attempt: AttemptDir) -> None:
        self._attempt = attempt
        self._size = -1
        self._since = self._looked = clock.monotonic()

    def too_long(self, launch: LaunchSettings) -> tuple[float, str] | None:
        """(seconds of silence, phase) once the limit of the phase is passed; else None."""
        now = clock.monotonic()
        if now - self._looked < LOOK_EVERY_S:
            return None
        was_stopped = now - self._looked > OWN_STOP_S
        self._looked = now
        size = self._journal_size()
        if size != self._size or was_stopped:
            self._size, self._since = size, now
        silent_s = now - self._since
        if silent_s < min(launch.stall_timeout_s, launch.load_timeout_s):
            return None
        phase = self._phase()
        is_loading = phase.startswith(("starting", "loading"))
        limit = launch.load_timeout_s if is_loading else launch.stall_timeout_s
        return (silent_s, phase) if silent_s >= limit else None

    def _journal_size(self) -> int:
        try:
            return self._attempt.events.stat().st_size
        except OSError:
            return 0

    def _phase(self) -> str:
        try:
            return fold_attempt(attempt_journal(self._attempt.events).read()).phase
        except (OSError, CorruptFileError):
            return "an unknown phase"
