"""Turns the plain settings of the run's state into checked ones, once for each that differ."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from halos_backend.config.schema import RunSettings
from halos_backend.errors import CorruptFileError
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState


class SettingsCache:
    """The settings of the round at hand."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._plain: dict[str, Any] | None = None
        self._settings: RunSettings | None = None

    def at_hand(self, state: RunState) -> RunSettings:
        """Raises CorruptFileError for settings that this version cannot read."""
        plain = state.settings_of(state.round_at_hand)
        if self._settings is None or plain != self._plain:
            self._settings, self._plain = self._validated(plain), plain
        return self._settings

    def _validated(self, plain: dict[str, Any]) -> RunSettings:
        try:
            return RunSettings.model_validate(plain)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
                for problem in error.errors()
            )
            raise CorruptFileError(
                f"{self._run_dir.events}: settings that cannot be read: {problems}"
            ) from error
