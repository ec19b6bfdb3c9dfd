"""Owns the arguments and options that several verbs share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from halos_tui.cli import completing

RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="Name or directory of a run.", autocompletion=completing.runs
    ),
]
RunsDir = Annotated[
    Path | None,
    typer.Option(
        help="Where runs live; by default $HALOS_RUNS_DIR, else your user data directory.",
        autocompletion=completing.folders,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="K=V",
        help="Change a setting: --set train.lr=1e-6; train.lr=default has its default hold.",
        autocompletion=completing.settings,
    ),
]
Name = Annotated[str | None, typer.Option(help="Name of the run; by default loss and time.")]
NoUi = Annotated[
    bool,
    typer.Option("--no-ui", help="Follow without the app, as this verb always does."),
]
Headless = Annotated[
    bool,
    typer.Option(
        "--no-ui",
        help="Follow without the app; so it is too where there is no terminal, and with --json,"
        " --detach or --pause-on-term.",
    ),
]
ReadOnly = Annotated[
    bool, typer.Option("--read-only", help="The app offers nothing that changes a run.")
]
Ascii = Annotated[bool, typer.Option("--ascii", help="The app draws with ASCII characters alone.")]
NoMouse = Annotated[
    bool, typer.Option("--no-mouse", help="The app leaves the mouse to the terminal.")
]
ThemeName = Annotated[
    str | None,
    typer.Option(
        "--theme",
        metavar="NAME",
        help="Colours of the app, such as light.",
        autocompletion=completing.themes,
    ),
]
FollowJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="One JSON object per line: the journal's events as they are, and the stages'"
        " MetricsLogged and Warned.",
    ),
]
Round = Annotated[
    int | None,
    typer.Option(help="Round; by default the newest.", autocompletion=completing.rounds),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, one object per line.")]
Detach = Annotated[
    bool, typer.Option("--detach", help="Return once the run is started (exit code 0).")
]
PauseOnTerm = Annotated[
    bool,
    typer.Option(
        "--pause-on-term",
        help="SIGTERM stops the run first, so that it can be resumed (Slurm, Kubernetes; exit code"
        " 6); without it the run goes on by itself.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Check every input, print the plan, leave nothing behind. With --json one object.",
    ),
]


def runs_root(given: Path | None) -> Path:
    """Returns the runs directory: the one that was asked for, or the default."""
    from halos_backend.store.run_dir import default_runs_root

    # Path's own resolve raises where links go round in a circle
    return Path(os.path.realpath(default_runs_root() if given is None else given))
