"""`extend`: more rounds for a run that is completed."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer
from halos_backend.errors import UsageError
from halos_backend.supervisor import control
from halos_backend.supervisor.asking import asker

from halos_tui.cli import asking, following
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
from halos_tui.headless.notices import command_for


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
    run_dir, seen = asking.look_at(runs_root(runs_dir), run)
    state = seen.state
    if state.status != "completed":
        more = f"{command_for(run_dir, 'set', 'loop.num_rounds=N')} changes where it ends"
        hint = "" if state.status == "aborted" else f", not completed; {more}"
        raise UsageError(f"the run {run_dir.name} is {seen.status}{hint}")
    settings = state.settings_of(len(state.rounds) + 1)
    request = control.Extend(
        request_id=control.new_request_id(),
        by=asker(),
        num_rounds=rounds,
        assignments=asking.with_absolute_paths(settings, overrides) if overrides else (),
    )
    return following.follow_from(
        partial(asking.ask_seen, run_dir, seen, request),
        run_dir,
        json=json,
        detach=detach,
        pause_on_term=pause_on_term,
    )
