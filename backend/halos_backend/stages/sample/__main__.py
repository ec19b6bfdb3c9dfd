"""`python -m halos_backend.stages.sample --attempt-dir DIR`."""

from __future__ import annotations

from halos_backend.stages.runtime import Attempt, StageResult, run_stage


def execute(attempt: Attempt) -> StageResult:
    from halos_backend.stages.sample.stage import sample_round  # after the threads are set

    return sample_round(attempt)


if __name__ == "__main__":
    run_stage(execute)
