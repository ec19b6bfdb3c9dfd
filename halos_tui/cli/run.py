"""This verb is `run`: it starts a run of a run file and follows it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from halos_tui.cli import completing
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


def command(
    config: Annotated[
        Path,
        typer.Argument(
            help="A run file; halos-tui init writes one.", autocompletion=completing.files
        ),
    ],
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
    """Start a run and show it in the app, or follow it without (--no-ui).

    The exit code says how the run stands. Leaving the app never touches the run. Without the app
    Ctrl-C asks what you mean; a closed terminal or SIGTERM detaches, and the run goes on.
    """
    from halos_backend.config.load import load_settings, resolve
    from halos_backend.config.toml_text import read_run_file

    from halos_tui.app_options import AppOptions
    from halos_tui.cli import starting  # pydantic: 0.15 s
    from halos_tui.cli.opening import can_show_app

    config_text, root = read_run_file(config), runs_root(runs_dir)
    settings = resolve(load_settings(config, overrides or (), text=config_text))
    starting.say_defaults(overrides, settings)
    if dry_run:
        from halos_tui.cli.starting import show_plan

        return show_plan(settings, config_text, root=root, name=name, json=json)
    is_headless = no_ui or json or detach or pause_on_term or not can_show_app()
    app = None if is_headless else AppOptions(root, read_only, ascii, not no_mouse, theme)
    return starting.start(
        settings,
        config_text,
        root=root,
        name=name,
        json=json,
        detach=detach,
        pause_on_term=pause_on_term,
        app=app,
    )[1]
