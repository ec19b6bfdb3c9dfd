"""This verb is `demo`: it runs the embedded task with its tiny models; no GPU, no network."""

from __future__ import annotations

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
    loss: Annotated[
        str,
        typer.Option(help="dpo, kto, grpo, ipo, simpo, ...", autocompletion=completing.losses),
    ] = "dpo",
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
    from halos_backend.config.load import parse_settings, resolve
    from halos_backend.config.toml_text import dump_toml

    from halos_tui.app_options import AppOptions
    from halos_tui.cli import starting  # pydantic: 0.15 s
    from halos_tui.cli.opening import can_show_app
    from halos_tui.headless.progress import ProgressBar
    from halos_tui.new_run.starts import demo_table

    with ProgressBar() as bar:
        table = demo_table(loss, rounds, bar.update)
    root = runs_root(runs_dir)
    settings = resolve(parse_settings(table, source="demo", overrides=overrides or ()))
    starting.say_defaults(overrides, settings)
    if dry_run:
        from halos_tui.cli.starting import show_plan

        return show_plan(settings, dump_toml(table), root=root, name=name, json=json)
    is_headless = no_ui or json or detach or pause_on_term or not can_show_app()
    app = None if is_headless else AppOptions(root, read_only, ascii, not no_mouse, theme)
    return starting.start(
        settings,
        dump_toml(table),
        root=root,
        name=name,
        json=json,
        detach=detach,
        pause_on_term=pause_on_term,
        app=app,
    )[1]
