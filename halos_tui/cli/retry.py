"""This verb is `retry`: it tries a failed stage again."""

from __future__ import annotations

from functools import partial

from halos_tui.cli import asking
from halos_tui.cli.options import Detach, FollowJson, NoUi, PauseOnTerm, RunName, RunsDir, runs_root
from halos_tui.control import requests


def command(
    run: RunName,
    no_ui: NoUi = False,  # noqa: ARG001
    json: FollowJson = False,
    detach: Detach = False,
    pause_on_term: PauseOnTerm = False,
    runs_dir: RunsDir = None,
) -> int:
    """Start a new attempt of the stage that failed, and follow the run.

    It takes over what the attempts before it completed. It also starts a stage at once that waits
    to be tried again.
    """
    from halos_tui.cli import following  # pydantic: 0.1 s

    run_dir, seen = asking.look_at(runs_root(runs_dir), run)
    request = requests.retry_request(run_dir, seen)
    return following.follow_from(
        partial(asking.ask_seen, run_dir, seen, request),
        run_dir,
        json=json,
        detach=detach,
        pause_on_term=pause_on_term,
    )
