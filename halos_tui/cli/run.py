"""`run`: start a run of a run file and follow it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from halos_backend.config.load import load_settings, resolve

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


def command(
    config: Annotated[Path, typer.Argument(help="A run file; halos-tui init writes one.")],
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
    """Start a run and follow it.

    The exit code is that of the run. Ctrl-C asks what you mean; a closed terminal or SIGTERM
    detaches, and the run goes on.
    """
    settings = resolve(load_settings(config, overrides or ()))
    config_text, root = config.read_text(encoding="utf-8-sig"), runs_root(runs_dir)
    if dry_run:
        from halos_tui.cli.dry_run import show_plan

        return show_plan(settings, config_text, root=root, name=name, json=json)
    in_app = wants_app(is_headless=no_ui or json or detach or pause_on_term)
    look = Look(read_only, ascii, not no_mouse, theme) if in_app else None
    return starting.start(
        settings,
        config_text,
        root=root,
        name=name,
        json=json,
        detach=detach,
        pause_on_term=pause_on_term,
        look=look,
    )[1]
