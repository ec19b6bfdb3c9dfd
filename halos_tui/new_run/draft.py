"""Owns a new run that is being set up: its plan, and making it.

`--dry-run` shows the same plan. Nothing here is drawn. What takes seconds is called in threads
only, and tells how far it is.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from halos_backend.client import start
from halos_backend.client.dry_run import PlannedRounds, RunPlan, make_plan
from halos_backend.config.guards import Guard
from halos_backend.config.schema import RunSettings
from halos_backend.findings import refuse_inputs
from halos_backend.store.run_dir import RunDir, check_run_name

from halos_tui.formatting import count, number, percent, plural, size, visible
from halos_tui.new_run.checking import Report, Tell, examine, prompts_reporter, refuse_problems
from halos_tui.new_run.create import default_name, make_run, start_made
from halos_tui.new_run.starts import Start


def find_plan(
    settings: RunSettings, config_text: str, *, root: Path, name: str, report: Report, warn: Tell
) -> RunPlan:
    """Returns the plan, after a real check of the inputs in a temporary directory.

    Raises InputsError for what the checks refuse, UsageError for a name that no run can have.
    """
    check_run_name(root, name)
    examined = examine(settings, config_text, root=root, report=report)
    refuse_problems(examined.findings, warn)
    guards = {
        key: _guard_words(guard) for key, guard in settings.guards.items() if guard.action != "off"
    }
    inputs = refuse_inputs(examined.prepared)
    return make_plan(settings, inputs, RunDir(root / name), guards=guards)


def _guard_words(guard: Guard) -> str:
    """Returns `kl_initial above 10: pause`."""
    limits = [
        f"above {number(guard.above, 6)}" if guard.above is not None else "",
        f"below {number(guard.below, 6)}" if guard.below is not None else "",
        f"{percent(guard.drop_frac)} under its best" if guard.drop_frac is not None else "",
        "not finite" if guard.not_finite else "",
    ]
    return f"{guard.metric} {' or '.join(filter(None, limits))}: {guard.action}"


def plan_lines(plan: RunPlan) -> list[str]:
    """Writes the plan as text, line by line."""
    skipped = f", {count(plan.num_too_long)} too long and skipped" if plan.num_too_long else ""
    lines = [
        f"{visible(plan.run)}: {plural(plan.num_rounds, 'round')} of {plan.loss},"
        f" {plural(plan.num_prompts, 'prompt')}{skipped}",
        visible(plan.path),
        "",
        *(_rounds_line(group, plan.example) for group in plan.rounds),
        *_scoring_lines(plan),
        "",
        f"one step sees {count(plan.effective_batch_size)} {plan.example} on"
        f" {plan.num_processes} process{'es' if plan.num_processes > 1 else ''};"
        f" at most {plural(plan.max_steps, 'step')} in all",
        f"disk: up to {size(plan.disk_needed_bytes)}, {size(plan.disk_free_bytes)} free",
        *(f"guard {visible(name)}: {words}" for name, words in plan.guards.items()),
        *(["it pauses after each round"] if plan.pause_after_each_round else []),
        "",
    ]
    commands = plan.commands.items()
    return [*lines, *(f"{stage:7}{visible(shlex.join(words))}" for stage, words in commands)]


def _scoring_lines(plan: RunPlan) -> list[str]:
    if not plan.num_scored:
        return ["the final policy is not scored"]
    noun = "held-out prompt" if plan.num_held_out else "prompt"
    return [f"then the final policy is scored on {plural(plan.num_scored, noun)}"]


def _rounds_line(group: PlannedRounds, example: str) -> str:
    first, last = group.first_round, group.first_round + group.num_rounds - 1
    which = f"round {first}" if first == last else f"rounds {first} to {last}, each"
    return (
        f"{which}: {plural(group.num_prompts, 'prompt')},"
        f" {count(group.num_completions)} completions, at most {count(group.max_examples)}"
        f" {example}, {plural(group.max_steps, 'step')}"
    )


@dataclass(frozen=True)
class Draft:
    """Holds settings that are right, and what came before them. Without a name the run gets one."""

    start: Start
    settings: RunSettings
    assignments: tuple[str, ...]
    root: Path
    name: str

    @property
    def config_text(self) -> str:
        return self.start.config_text(self.settings, self.assignments)


def plan_of(draft: Draft, report: Report, warn: Tell) -> list[str]:
    """Says what the run would do, after a check of its inputs, whose warnings it tells.

    Raises HalosError for wrong ones.
    """
    report("checking the inputs", 0, 0)
    plan = find_plan(
        draft.settings,
        draft.config_text,
        root=draft.root,
        name=draft.name or default_name(draft.settings, draft.root),
        report=report,
        warn=warn,
    )
    return plan_lines(plan)


def make_and_start(draft: Draft, report: Report, warn: Tell) -> RunDir:
    """Returns the run, at work. Raises HalosError where that fails; nothing is left behind then."""

    def create() -> RunDir:
        return start.create_run(
            draft.root,
            draft.name or default_name(draft.settings, draft.root),
            config_text=draft.config_text,
            settings=draft.settings.model_dump(mode="json"),
            report=prompts_reporter(report),
        )

    report("checking the inputs", 0, 0)
    made = make_run(draft.settings, create, root=draft.root, warn=warn)
    start_made(made)
    return made


def check_name(text: str) -> str:
    """Says what is wrong with a run's name; "" where nothing is."""
    return "a name has no / and does not begin with ." if "/" in text or text[:1] == "." else ""
