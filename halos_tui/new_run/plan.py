"""Works out what a run would do: rounds, steps, disk, commands. `--dry-run` and the app show it."""

from __future__ import annotations

import math
import shlex
import shutil
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from halos_backend.config.guards import Guard
from halos_backend.config.needs import example_noun, examples_per_round
from halos_backend.config.schema import RunSettings
from halos_backend.doctor import disk_needed_bytes
from halos_backend.doctor.disk import existing_parent
from halos_backend.events import STAGES
from halos_backend.store.run_dir import RunDir, check_run_name
from halos_backend.supervisor.plan import round_sizes, scoring_size
from halos_backend.supervisor.processes.commands import num_stage_processes, stage_command

from halos_tui.formatting import count, number, percent, plural, size, visible
from halos_tui.new_run.checking import Report, Tell, examine, refuse_problems


def find_plan(
    settings: RunSettings, config_text: str, *, root: Path, name: str, report: Report, warn: Tell
) -> dict[str, Any]:
    """Returns the plan, after a real check of the inputs in a temporary directory.

    Raises InputsError for what the checks refuse, UsageError for a name that no run can have.
    """
    check_run_name(root, name)
    examined = examine(settings, config_text, root=root, report=report)
    refuse_problems(examined.findings, warn)
    return make_plan(settings, examined.prepared, RunDir(root / name))


def make_plan(
    settings: RunSettings, prepared: Mapping[str, Any], run_dir: RunDir
) -> dict[str, Any]:
    """Returns the plan as plain data. What depends on rewards is an upper bound."""
    sizes = round_sizes(settings, prepared["num_prompts"])
    rounds, first = [], 1
    for num_prompts, group in groupby(sizes):
        num_rounds = len(list(group))
        rounds.append(
            {
                "first_round": first,
                "num_rounds": num_rounds,
                **_round_plan(settings, num_prompts),
            }
        )
        first += num_rounds
    return {
        "run": run_dir.name,
        "path": str(run_dir.path),
        "loss": settings.train.loss.kind,
        "num_rounds": len(sizes),
        "num_prompts": prepared["num_prompts"],
        "num_too_long": prepared["num_too_long"],
        "num_parameters": prepared["num_parameters"],
        "rounds": rounds,
        "max_steps": sum(group["num_rounds"] * group["max_steps"] for group in rounds),
        "effective_batch_size": settings.train.batch_size,
        "example": example_noun(settings),
        "num_processes": settings.launch.num_processes,
        "num_scored": _num_scored(settings, prepared, sum(sizes)),
        "num_held_out": prepared["num_held_out"],
        "pause_after_each_round": settings.loop.pause_after_each_round,
        "guards": {
            name: _guard_words(guard)
            for name, guard in settings.guards.items()
            if guard.action != "off"
        },
        "disk_needed_bytes": disk_needed_bytes(
            settings,
            num_parameters=prepared["num_parameters"],
            checkpoint_bytes=prepared["checkpoint_bytes"],
            num_prompts=prepared["num_prompts"],
        ),
        "disk_free_bytes": shutil.disk_usage(existing_parent(run_dir.path)).free,
        "commands": {
            stage: stage_command(
                stage,
                run_dir.attempt(1, stage, 1).path,
                num_stage_processes(stage, settings),
            )
            for stage in STAGES
        },
    }


def _num_scored(settings: RunSettings, prepared: Mapping[str, Any], cursor: int) -> int:
    """Counts the prompts on which the result is scored; 0 where it is not."""
    is_policy = settings.train.loss.kind != "bradley_terry"
    if settings.loop.score_final is False or not cursor or not is_policy:
        return 0
    size = scoring_size(settings, cursor=cursor, num_prompts=prepared["num_prompts"])
    return int(prepared["num_held_out"]) or size


def _round_plan(settings: RunSettings, num_prompts: int) -> dict[str, int]:
    loop = settings.loop.model_copy(update={"prompts_per_round": num_prompts})
    max_examples = examples_per_round(settings.model_copy(update={"loop": loop}))
    train = settings.train
    return {
        "num_prompts": num_prompts,
        "num_completions": num_prompts * settings.sample.group_size,
        "max_examples": max_examples,
        "max_steps": math.ceil(max_examples * train.num_epochs / train.batch_size),
    }


def _guard_words(guard: Guard) -> str:
    """Returns `kl_initial above 10: pause`."""
    limits = [
        f"above {number(guard.above)}" if guard.above is not None else "",
        f"below {number(guard.below)}" if guard.below is not None else "",
        f"{percent(guard.drop_frac)} under its best" if guard.drop_frac is not None else "",
        "not finite" if guard.not_finite else "",
    ]
    return f"{guard.metric} {' or '.join(filter(None, limits))}: {guard.action}"


def plan_lines(plan: dict[str, Any]) -> list[str]:
    """Writes the plan as text, line by line."""
    skipped = (
        f", {count(plan['num_too_long'])} too long and skipped" if plan["num_too_long"] else ""
    )
    lines = [
        f"{visible(plan['run'])}: {plural(plan['num_rounds'], 'round')} of {plan['loss']},"
        f" {plural(plan['num_prompts'], 'prompt')}{skipped}",
        visible(plan["path"]),
        "",
        *(_round_line(group, plan["example"]) for group in plan["rounds"]),
        *_scoring_lines(plan),
        "",
        f"one step sees {count(plan['effective_batch_size'])} {plan['example']} on"
        f" {plan['num_processes']} process{'es' if plan['num_processes'] > 1 else ''};"
        f" at most {plural(plan['max_steps'], 'step')} in all",
        f"disk: up to {size(plan['disk_needed_bytes'])}, {size(plan['disk_free_bytes'])} free",
        *(f"guard {visible(name)}: {words}" for name, words in plan["guards"].items()),
        *(["it pauses after each round"] if plan["pause_after_each_round"] else []),
        "",
    ]
    commands = plan["commands"].items()
    return [*lines, *(f"{stage:7}{visible(shlex.join(words))}" for stage, words in commands)]


def _scoring_lines(plan: dict[str, Any]) -> list[str]:
    if not plan["num_scored"]:
        return ["the final policy is not scored"]
    noun = "held-out prompt" if plan["num_held_out"] else "prompt"
    return [f"then the final policy is scored on {plural(plan['num_scored'], noun)}"]


def _round_line(group: dict[str, Any], example: str) -> str:
    first, last = group["first_round"], group["first_round"] + group["num_rounds"] - 1
    which = f"round {first}" if first == last else f"rounds {first} to {last}, each"
    return (
        f"{which}: {plural(group['num_prompts'], 'prompt')},"
        f" {count(group['num_completions'])} completions, at most {count(group['max_examples'])}"
        f" {example}, {plural(group['max_steps'], 'step')}"
    )
