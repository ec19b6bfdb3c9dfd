"""This verb is `extend`: it adds rounds to a run that is completed."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from halos_tui.cli import asking
from halos_tui.cli.options import (
    Detach,
    FollowJson,
    NoUi,
    Overrides,
    PauseOnTerm,
    RunName,
    RunsDir,
    runs_root,
)
from halos_tui.control import requests


def command(
    run: RunName,
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="Rounds to add.")],
    overrides: Overrides = None,
    no_ui: NoUi = False,  # noqa: ARG001
    json: FollowJson = False,
    detach: Detach = False,
    pause_on_term: PauseOnTerm = False,
    runs_dir: RunsDir = None,
) -> int:
    """Add rounds to a completed run, go on with it, and follow it.

    The rounds that are done stay as they are; the new ones begin with the last one's result.
    """
    from halos_tui.cli import following  # pydantic: 0.1 s

    run_dir, seen = asking.look_at(runs_root(runs_dir), run)
    request = requests.extend_request(run_dir, seen, rounds, overrides or ())
    return following.follow_from(
        partial(asking.ask_seen, run_dir, seen, request),
        run_dir,
        json=json,
        detach=detach,
        pause_on_term=pause_on_term,
    )
