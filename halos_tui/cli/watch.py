"""This verb is `watch`: it follows a run that it does not steer."""

from __future__ import annotations

from halos_tui.cli.options import FollowJson, RunName, RunsDir, runs_root


def command(run: RunName, json: FollowJson = False, runs_dir: RunsDir = None) -> int:
    """Follow a run from its first event.

    Ctrl-C leaves; the exit code is that of the run's status.
    """
    from halos_backend.store.run_dir import find_run

    from halos_tui.cli import following  # pydantic: 0.1 s

    return following.watch(find_run(runs_root(runs_dir), run), json=json)
