"""The reward model that a worker keeps between rounds, in host memory while others compute.

Imports nothing of torch: a function judge need not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from halos_backend.stages.label.reward_model import ClassifierJudge


class KeptJudge:
    """At most one judge, by its identity: settings, files, device and dtype."""

    def __init__(self) -> None:
        self._judge: ClassifierJudge | None = None

    def get(self, identity: str, load: Callable[[], ClassifierJudge]) -> ClassifierJudge:
        """The judge of that identity, loaded only if it is not the one that is kept."""
        if self._judge is None or self._judge.identity != identity:
            self._judge = None  # freed before the next one is loaded
            self._judge = load()
        self._judge.model.to(self._judge.ranks.device)
        return self._judge

    def park(self) -> None:
        """Give GPU memory back; the weights stay in host memory."""
        if self._judge is not None and self._judge.ranks.device.type == "cuda":
            import torch

            self._judge.model.to("cpu")
            torch.cuda.empty_cache()
