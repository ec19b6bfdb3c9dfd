"""Is the sample stage as a program: `python -m halos_backend.stages.sample --attempt-dir DIR`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halos_backend.config.schema import RunSettings
from halos_backend.stages.runtime import Attempt, StageResult, run_stage

if TYPE_CHECKING:
    from halos_backend.stages.sample.engine_cache import EngineCache


class SampleStage:
    """Samples a round, and the next one with the same engine where the process stays."""

    def __init__(self) -> None:
        self._cache: EngineCache | None = None

    def __call__(self, attempt: Attempt) -> StageResult:
        from halos_backend.stages.sample.engine_cache import EngineCache
        from halos_backend.stages.sample.stage import sample_round

        if attempt.stays and self._cache is None:
            self._cache = EngineCache()
        return sample_round(attempt, self._cache)

    def park(self) -> None:
        if self._cache is not None:
            self._cache.park()

    def close(self) -> None:
        if self._cache is not None:
            self._cache.close()


def libraries(_settings: RunSettings) -> None:
    """Imports the stage's libraries; torch comes with them, and must not come before its number of
    threads is fixed.
    """
    import halos_backend.stages.sample.engine_cache
    import halos_backend.stages.sample.stage  # noqa: F401


execute = SampleStage()

if __name__ == "__main__":
    run_stage(execute, libraries=libraries, park=execute.park, close=execute.close)
