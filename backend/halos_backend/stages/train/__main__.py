"""The train stage as a program: `python -m halos_backend.stages.train --attempt-dir DIR`."""

from __future__ import annotations

from halos_backend.stages.runtime import Attempt, StageResult, run_stage


def execute(attempt: Attempt) -> StageResult:
    """Train the policy on one round's feedback."""
    # torch is imported here so that the runtime has fixed its number of threads before
    from halos_backend.stages.train.train_round import train_round

    return train_round(attempt)


if __name__ == "__main__":
    run_stage(execute)
