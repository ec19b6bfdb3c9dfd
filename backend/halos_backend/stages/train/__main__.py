"""Is the train stage as a program: `python -m halos_backend.stages.train --attempt-dir DIR`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halos_backend.config.schema import RunSettings
from halos_backend.stages.runtime import Attempt, StageResult, run_stage

if TYPE_CHECKING:
    from halos_backend.stages.train.model_cache import ModelCache


class TrainStage:
    """Trains the policy on a round's feedback, and on the next one's where the process stays."""

    def __init__(self) -> None:
        self._cache: ModelCache | None = None

    def __call__(self, attempt: Attempt) -> StageResult:
        from halos_backend.stages.train.model_cache import ModelCache
        from halos_backend.stages.train.train_round import train_round

        if attempt.stays and self._cache is None:
            self._cache = ModelCache()
        return train_round(attempt, self._cache)

    def park(self) -> None:
        if self._cache is not None:
            self._cache.park()


def libraries(_settings: RunSettings) -> None:
    """Imports the stage's libraries; torch comes with them, and must not come before its number of
    threads is fixed.
    """
    import halos_backend.stages.train.model_cache
    import halos_backend.stages.train.train_round  # noqa: F401


execute = TrainStage()

if __name__ == "__main__":
    run_stage(execute, libraries=libraries, park=execute.park)
