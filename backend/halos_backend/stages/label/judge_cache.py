"""Holds the reward model of a worker between rounds, out of GPU memory while others compute.

It imports nothing of torch: a function judge need not wait for it. It stands alone for that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar


class LoadedJudge(Protocol):
    """Is a judge with a model in memory."""

    @property
    def identity(self) -> str:
        """Names it by its settings, files, device and dtype."""

    def wake(self) -> None:
        """Makes it ready to score, on the device."""

    def park(self) -> None:
        """Gives GPU memory back; what takes long to load stays."""

    def close(self) -> None:
        """Ends it, and whatever processes it has."""


J = TypeVar("J", bound=LoadedJudge)


class JudgeCache:
    """Holds at most one judge, by its identity; and which never can be, so that none is tried
    twice.
    """

    def __init__(self) -> None:
        self._judge: Any = None
        self.refused: dict[str, str] = {}

    def get(
        self, identity: str, load: Callable[[], J], *, fits: Callable[[J], bool] = lambda _: True
    ) -> J:
        """Returns the judge of that identity, loaded only if it is not the one that is kept."""
        judge: J | None = self._judge
        if judge is None or judge.identity != identity or not fits(judge):
            self.close()  # freed before the next one is loaded
            self._judge = judge = load()
        judge.wake()
        return judge

    def park(self) -> None:
        """Gives GPU memory back; what takes long to load stays."""
        if self._judge is not None:
            self._judge.park()

    def close(self) -> None:
        """Ends the judge and holds none."""
        if self._judge is not None:
            self._judge.close()
            self._judge = None
