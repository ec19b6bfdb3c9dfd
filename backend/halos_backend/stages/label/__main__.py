"""Is the label stage as a program: `python -m halos_backend.stages.label --attempt-dir DIR`."""

from functools import partial

from halos_backend.config.schema import RewardModelJudge, RunSettings
from halos_backend.stages.label.judge_cache import JudgeCache
from halos_backend.stages.label.stage import execute
from halos_backend.stages.runtime import run_stage


def libraries(settings: RunSettings) -> None:
    """Imports the stage's libraries; a function's rewards need none."""
    if isinstance(settings.label.judge, RewardModelJudge):
        pass


if __name__ == "__main__":
    cache = JudgeCache()
    run_stage(
        partial(execute, cache=cache), libraries=libraries, park=cache.park, close=cache.close
    )
