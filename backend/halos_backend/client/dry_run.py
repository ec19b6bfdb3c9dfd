"""Works out what a run would do, without one: rounds, steps, disk, and the commands of its stages.

How it reads is the caller's: `--dry-run` and the app show it.
"""

from __future__ import annotations

import math
import shutil
from itertools import groupby

import msgspec

from halos_backend.config.needs import example_noun, examples_per_round
from halos_backend.config.schema import RunSettings
from halos_backend.doctor import disk_needed_bytes
from halos_backend.doctor.disk import existing_parent
from halos_backend.events import STAGES, Stage
from halos_backend.findings import RightInputs
from halos_backend.store.run_dir import RunDir
from halos_backend.supervisor.plan import round_sizes, scoring_size
from halos_backend.supervisor.processes.commands import num_stage_processes, stage_command


class PlannedRounds(msgspec.Struct, frozen=True, kw_only=True):
    """Describes rounds of one size; what depends on rewards is an upper bound."""

    first_round: int
    num_rounds: int
    num_prompts: int
    num_completions: int
    max_examples: int
    max_steps: int


class RunPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Says what a run would do; `run --dry-run --json` prints it under these names.

    `guards` has each guard in words, `example` what the counts of examples are of.
    """

    run: str
    path: str
    loss: str
    num_rounds: int
    num_prompts: int
    num_too_long: int
    num_parameters: int
    rounds: tuple[PlannedRounds, ...]
    max_steps: int
    effective_batch_size: int
    example: str
    num_processes: int
    num_scored: int
    num_held_out: int
    pause_after_each_round: bool
    guards: dict[str, str]
    disk_needed_bytes: int
    disk_free_bytes: int
    commands: dict[Stage, list[str]]


def make_plan(
    settings: RunSettings,
    inputs: RightInputs,
    run_dir: RunDir,
    *,
    guards: dict[str, str],
) -> RunPlan:
    """Plans a run; `guards` has those that are on, in words."""
    sizes = round_sizes(settings, inputs.num_prompts)
    rounds, first = [], 1
    for num_prompts, group in groupby(sizes):
        num_rounds = len(list(group))
        rounds.append(_plan_rounds(settings, num_prompts, first=first, num_rounds=num_rounds))
        first += num_rounds
    return RunPlan(
        run=run_dir.name,
        path=str(run_dir.path),
        loss=settings.train.loss.kind,
        num_rounds=len(sizes),
        num_prompts=inputs.num_prompts,
        num_too_long=inputs.num_too_long,
        num_parameters=inputs.num_parameters,
        rounds=tuple(rounds),
        max_steps=sum(group.num_rounds * group.max_steps for group in rounds),
        effective_batch_size=settings.train.batch_size,
        example=example_noun(settings),
        num_processes=settings.launch.num_processes,
        num_scored=_num_scored(settings, inputs, sum(sizes)),
        num_held_out=inputs.num_held_out,
        pause_after_each_round=settings.loop.pause_after_each_round,
        guards=guards,
        disk_needed_bytes=disk_needed_bytes(
            settings,
            num_parameters=inputs.num_parameters,
            checkpoint_bytes=inputs.checkpoint_bytes,
            num_prompts=inputs.num_prompts,
        ),
        disk_free_bytes=shutil.disk_usage(existing_parent(run_dir.path)).free,
        commands={stage: _command(stage, settings, run_dir) for stage in STAGES},
    )


def _plan_rounds(
    settings: RunSettings, num_prompts: int, *, first: int, num_rounds: int
) -> PlannedRounds:
    loop = settings.loop.model_copy(update={"prompts_per_round": num_prompts})
    max_examples = examples_per_round(settings.model_copy(update={"loop": loop}))
    train = settings.train
    return PlannedRounds(
        first_round=first,
        num_rounds=num_rounds,
        num_prompts=num_prompts,
        num_completions=num_prompts * settings.sample.group_size,
        max_examples=max_examples,
        max_steps=math.ceil(max_examples * train.num_epochs / train.batch_size),
    )


def _num_scored(settings: RunSettings, inputs: RightInputs, cursor: int) -> int:
    """Counts the prompts on which the result is scored; 0 where it is not."""
    is_policy = settings.train.loss.kind != "bradley_terry"
    if settings.loop.score_final is False or not cursor or not is_policy:
        return 0
    size = scoring_size(settings, cursor=cursor, num_prompts=inputs.num_prompts)
    return inputs.num_held_out or size


def _command(stage: Stage, settings: RunSettings, run_dir: RunDir) -> list[str]:
    attempt = run_dir.attempt(1, stage, 1)
    return stage_command(stage, attempt.path, num_stage_processes(stage, settings))
