"""`resume`: go on with a run that stopped."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer
from halos_backend.errors import RunInUseError, UsageError
from halos_backend.store.liveness import describe_stall
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import ENDED
from halos_backend.supervisor import control
from halos_backend.supervisor.asking import asker

from halos_tui.cli import asking, following
from halos_tui.cli.options import (
    Detach,
    FollowJson,
    NoUi,
    PauseOnTerm,
    RunsDir,
    runs_root,
)
from halos_tui.cli.resume_all import resume_all
from halos_tui.headless.notices import command_for
from halos_tui.observed import Observation


def command(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Name or directory of a run.")
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
    if every:
        if run is not None:
            raise UsageError("name a run, or write --all: not both")
        return resume_all(runs_root(runs_dir), json=json)
    if run is None:
        raise UsageError("name a run, or write --all for every run that lost its supervisor")
    run_dir, seen = asking.look_at(runs_root(runs_dir), run)
    _check_resumable(run_dir, seen)
    begin: Callable[[], object]
    if seen.state.status in ("paused", "failed", "pausing"):
        request = control.Resume(request_id=control.new_request_id(), by=asker())
        begin = partial(asking.ask_seen, run_dir, seen, request)
    else:
        begin = partial(asking.take_up, run_dir, seen)
    return following.follow_from(
        begin, run_dir, json=json, detach=detach, pause_on_term=pause_on_term
    )


def _check_resumable(run_dir: RunDir, seen: Observation) -> None:
    """Raises UsageError for a run that has ended, RunInUseError for one that runs."""
    state, supervisor = seen.state, seen.supervisor
    if state.status in ENDED:
        more = f"{command_for(run_dir, 'extend', '--rounds', 'N')} adds rounds; a"
        raise UsageError(
            f"the run {run_dir.name} is {state.status} ({state.reason}); there is nothing"
            f" to go on with. {more if state.status == 'completed' else 'A'} new run:"
            f" halos-tui run {run_dir.config}"
        )
    if supervisor is None or state.status in ("paused", "failed", "pausing"):
        return
    if seen.supervision.stalled_s is not None:
        raise RunInUseError(describe_stall(run_dir, supervisor, seen.supervision.stalled_s))
    raise RunInUseError(
        f"the run {run_dir.name} is {state.status}, under process {supervisor.pid} on"
        f" {supervisor.host}; to look at it: {command_for(run_dir, 'watch')}"
    )
