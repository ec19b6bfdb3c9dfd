"""What a stage runner asks of whatever measures its stages."""

from __future__ import annotations

from typing import Any, Protocol

from halos_backend.events import Stage

Key = tuple[int, Stage]
"""A stage by its round and name."""


class Meter(Protocol):
    """Measures what a stage uses while it runs."""

    def begin(self, key: Key) -> None: ...

    def end(self, key: Key) -> dict[str, Any]:
        """Numbers for the stage's summary."""
        ...
