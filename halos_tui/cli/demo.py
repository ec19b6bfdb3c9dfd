"""`demo`: a run of the embedded task with its tiny models; no GPU, no network."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import Annotated, Any

import msgspec
import typer
from halos_backend.config.load import parse_settings, resolve
from halos_backend.config.toml_text import dump_toml
from halos_backend.errors import ExitCode, HalosError, UsageError
from halos_backend.store.registry import load_state
from halos_backend.store.run_dir import RunDir
from halos_backend.supervisor.environment import importable_environment

from halos_tui.cli import starting
from halos_tui.cli.opening import Look, wants_app
from halos_tui.cli.options import (
    Ascii,
    Detach,
    DryRun,
    FollowJson,
    Name,
    NoMouse,
    Overrides,
    PauseOnTerm,
    ReadOnly,
    RunsDir,
    ThemeName,
    runs_root,
)
from halos_tui.formatting import number, plural, signed
from halos_tui.headless.notices import command_for
from halos_tui.headless.progress import ProgressBar
from halos_tui.rounds import reward_mean


def command(
    loss: Annotated[str, typer.Option(help="dpo, kto, grpo, ipo, simpo, ...")] = "dpo",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds.")] = 3,
    overrides: Overrides = None,
    name: Name = None,
    runs_dir: RunsDir = None,
    no_ui: NoUi = False,
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
    table, root = _settings_table(loss, rounds), runs_root(runs_dir)
    settings = resolve(parse_settings(table, source="demo", overrides=overrides or ()))
    if dry_run:
        from halos_tui.cli.dry_run import show_plan

        return show_plan(settings, dump_toml(table), root=root, name=name, json=json)
    in_app = wants_app(is_headless=no_ui or json or detach or pause_on_term)
    look = Look(read_only, ascii, not no_mouse, theme) if in_app else None
    run_dir, code = starting.start(
        settings,
        dump_toml(table),
        root=root,
        name=name,
        json=json,
        detach=detach,
        pause_on_term=pause_on_term,
        look=look,
    )
    if code == ExitCode.COMPLETED and not json:
        sys.stdout.write("\n".join(_summary(run_dir)) + "\n")
    return code


def _settings_table(loss: str, rounds: int) -> dict[str, Any]:
    """Build the demo's models if need be; the last line it prints is its settings."""
    module = ["-m", "halos_backend.embedded.demo"]
    command = [sys.executable, *module, "--loss", loss, "--rounds", str(rounds)]
    last = ""
    with (
        ProgressBar() as bar,
        tempfile.TemporaryFile() as errors,  # a pipe that nobody drains would stop the child
        subprocess.Popen(
            command,
            env=importable_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as child,
    ):
        for line in child.stdout or ():
            match line.split(maxsplit=3):
                case ["progress", done, total, what]:
                    bar.update(what.strip(), int(done), int(total))
                case _:
                    last = line
        child.wait()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    if child.returncode == ExitCode.USAGE:
        raise UsageError(said)
    if child.returncode != 0:
        raise HalosError(f"the demo could not be set up (exit code {child.returncode}):\n{said}")
    table: dict[str, Any] = msgspec.json.decode(last)
    return table


def _summary(run_dir: RunDir) -> list[str]:
    """What came of it, and where to look next."""
    state = load_state(run_dir)
    means = [mean for round in state.rounds if (mean := reward_mean(round)) is not None]
    lines = [""]
    if len(means) > 1:
        lines.append(
            f"mean reward over {plural(len(means), 'round')}: {number(means[0])} to"
            f" {number(means[-1])} ({signed(means[-1] - means[0])})"
        )
    return [
        *lines,
        f"the aligned model: {run_dir.final}",
        f"what it says: {command_for(run_dir, 'completions')}",
        f"how it went: {command_for(run_dir, 'status')}",
    ]
