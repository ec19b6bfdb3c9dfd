"""This verb is `resume`: it goes on with a run that stopped."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer
from halos_backend.errors import UsageError

from halos_tui.cli import asking, completing
from halos_tui.cli.options import (
    Detach,
    FollowJson,
    NoUi,
    PauseOnTerm,
    RunsDir,
    runs_root,
)
from halos_tui.control import requests


def command(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN", help="Name or directory of a run.", autocompletion=completing.runs
        ),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Every run that lost its supervisor, as after a reboot; follows none. Paused and"
            " failed ones are left alone.",
        ),
    ] = False,
    no_ui: NoUi = False,  # noqa: ARG001
    json: FollowJson = False,
    detach: Detach = False,
    pause_on_term: PauseOnTerm = False,
    runs_dir: RunsDir = None,
) -> int:
    """Go on with a paused, failed or lost run.

    It goes on at the stage where it stopped, and is followed as by `run`.
    """
    from halos_tui.cli import following  # pydantic: 0.1 s
    from halos_tui.cli.resume_all import resume_all

    if every:
        if run is not None:
            raise UsageError("name a run, or write --all: not both")
        return resume_all(runs_root(runs_dir), json=json)
    if run is None:
        raise UsageError("name a run, or write --all for every run that lost its supervisor")
    run_dir, seen = asking.look_at(runs_root(runs_dir), run)
    request = requests.resume_request(run_dir, seen)
    begin: Callable[[], object]
    if request is not None:
        begin = partial(asking.ask_seen, run_dir, seen, request)
    else:
        begin = partial(asking.take_up, run_dir, seen)
    return following.follow_from(
        begin, run_dir, json=json, detach=detach, pause_on_term=pause_on_term
    )
