"""Owns `job.json`: all that one attempt of a stage needs to know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from halos_backend import SCHEMA_VERSION, atomic
from halos_backend.errors import CorruptFileError
from halos_backend.events import Stage
from halos_backend.records import BAD_JSON


class SampleInputs(msgspec.Struct, frozen=True, tag_field="kind", tag="sample"):
    """Names `num_prompts` prompts of the run's order (see store.prompt_order) from `cursor` on.

    Where the policy was trained with adapters, `adapter` is their directory, unless they do not
    apply to `base`, the policy at the start of the run.
    """

    policy: str
    policy_version: int
    prompts: str
    cursor: int
    num_prompts: int
    base: str
    adapter: str | None = None


class LabelInputs(msgspec.Struct, frozen=True, tag_field="kind", tag="label"):
    """Names the sample attempt's `completions.jsonl`.

    `num_growing` is how many groups it will hold once the attempt, which still runs, is done; None
    where it is done. `earlier_scores` are the `scores.jsonl` of rounds that the reward is compared
    with and that may share prompts with this one, by their numbers. Without
    `wants_feedback` nothing is trained on the rewards.
    """

    completions: str
    num_growing: int | None = None
    earlier_scores: dict[str, str] = {}
    wants_feedback: bool = True


class TrainInputs(msgspec.Struct, frozen=True, tag_field="kind", tag="train"):
    """Holds the paths of what to train on and from.

    `model` is what is trained (the policy; for bradley_terry the reward model), `initial` the
    policy at the start of the run, `reference` None for a loss without one. `trainer_state` is the
    previous round's; in round 1 None, or that of the round that the run was forked from.
    `progress_start` and `progress_end` are this round's part of the run's prompt budget, in 0..1,
    for a schedule over the run. `first_step` counts the optimizer steps of earlier rounds.
    `reset_optimizer` says why the moments of `trainer_state` are not to be carried, None where they
    are.
    """

    model: str
    initial: str
    reference: str | None
    feedback: str
    completions: str
    trainer_state: str | None
    progress_start: float
    progress_end: float
    first_step: int
    reset_optimizer: str | None = None


class Job(msgspec.Struct, frozen=True):
    """Says what an attempt is to do. Paths are absolute; outputs go to the attempt's own directory.

    `settings` are the round's resolved settings as plain JSON. `earlier_attempts` are directories
    of failed attempts of the same stage and round, newest first, whose complete rows may be reused.
    """

    run: str
    round: int
    stage: Stage
    attempt: int
    seed: int
    num_threads: int
    num_processes: int
    settings: dict[str, Any]
    inputs: SampleInputs | LabelInputs | TrainInputs
    earlier_attempts: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION


def write_job(path: Path, job: Job) -> None:
    atomic.write_bytes(path, msgspec.json.format(msgspec.json.encode(job)) + b"\n", durable=False)


def read_job(path: Path) -> Job:
    """Reads a job. Raises CorruptFileError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Job)
    except (OSError, *BAD_JSON) as error:
        raise CorruptFileError(f"{path}: {error}") from error
