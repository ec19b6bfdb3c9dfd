"""`demo`: a run of the embedded task with its tiny models; no GPU, no network."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from halos_backend.config.load import parse_settings, resolve
from halos_backend.config.toml_text import dump_toml
from halos_backend.errors import ExitCode
from halos_backend.store.registry import load_state
from halos_backend.store.reward_change import change_between, reward_of
from halos_backend.store.run_dir import RunDir

from halos_tui.app_options import AppOptions
from halos_tui.cli import starting
from halos_tui.cli.opening import can_show_app
from halos_tui.cli.options import (
    Ascii,
    Detach,
    DryRun,
    FollowJson,
    Headless,
    Name,
    NoMouse,
    Overrides,
    PauseOnTerm,
    ReadOnly,
    RunsDir,
    ThemeName,
    runs_root,
)
from halos_tui.formatting import number, plural
from halos_tui.headless.notices import command_for
from halos_tui.headless.progress import ProgressBar
from halos_tui.new_runs.demo_settings import demo_table
from halos_tui.run.rounds import reward_change_in_words


def command(
    loss: Annotated[str, typer.Option(help="dpo, kto, grpo, ipo, simpo, ...")] = "dpo",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds.")] = 3,
    overrides: Overrides = None,
    name: Name = None,
    runs_dir: RunsDir = None,
    no_ui: Headless = False,
    json: FollowJson = False,
    detach: Detach = False,
    pause_on_term: PauseOnTerm = False,
    dry_run: DryRun = False,
    read_only: ReadOnly = False,
    ascii: Ascii = False,
    no_mouse: NoMouse = False,
    theme: ThemeName = None,
) -> int:
    """Run the embedded task with its tiny models.

    No GPU, no network; the models are built on first use.
    """
    with ProgressBar() as bar:
        table = demo_table(loss, rounds, bar.update)
    root = runs_root(runs_dir)
    settings = resolve(parse_settings(table, source="demo", overrides=overrides or ()))
    if dry_run:
        from halos_tui.cli.dry_run import show_plan

        return show_plan(settings, dump_toml(table), root=root, name=name, json=json)
    is_headless = no_ui or json or detach or pause_on_term or not can_show_app()
    app = None if is_headless else AppOptions(root, read_only, ascii, not no_mouse, theme)
    run_dir, code = starting.start(
        settings,
        dump_toml(table),
        root=root,
        name=name,
        json=json,
        detach=detach,
        pause_on_term=pause_on_term,
        app=app,
    )
    if code == ExitCode.COMPLETED and not json:
        sys.stdout.write("\n".join(_summary(run_dir)) + "\n")
    return code


def _summary(run_dir: RunDir) -> list[str]:
    """What came of it, and where to look next."""
    state = load_state(run_dir)
    rewards = [reward for round in state.rounds if (reward := reward_of(round)) is not None]
    lines = [""]
    if len(rewards) > 1:
        first, last = rewards[0], rewards[-1]
        lines.append(
            f"mean reward over {plural(len(rewards), 'round')}: {number(first.mean)} to"
            f" {number(last.mean)} ({reward_change_in_words(change_between(first, last))})"
        )
    return [
        *lines,
        f"the aligned model: {run_dir.final}",
        f"what it says: {command_for(run_dir, 'completions')}",
        f"how it went: {command_for(run_dir, 'status')}",
    ]
