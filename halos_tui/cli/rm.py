"""This verb is `rm`: it deletes runs."""

from __future__ import annotations

from typing import Annotated

import typer
from halos_backend.errors import ExitCode
from halos_backend.store.run_dir import RunDir, find_run

from halos_tui.cli import completing
from halos_tui.cli.options import RunsDir, Yes, runs_root
from halos_tui.control.stopping import loses
from halos_tui.formatting import plural, size, visible
from halos_tui.headless import notices
from halos_tui.headless.interrupts import agrees


def command(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Names or directories of runs.", autocompletion=completing.runs
        ),
    ],
    yes: Yes = False,
    runs_dir: RunsDir = None,
) -> int:
    """Delete runs with all they have: checkpoints, samples, journal.

    A run that is supervised, or whose stage still runs, is refused (exit code 5), and then nothing
    is deleted. On a terminal it asks first.
    """
    from halos_backend.client.remove import check_unused, remove_run  # pydantic: 0.1 s

    root = runs_root(runs_dir)
    found = list(dict.fromkeys(find_run(root, run) for run in runs))
    for run_dir in found:
        check_unused(run_dir)
    if not yes and not _is_meant(found):
        notices.say("nothing was deleted")
        return ExitCode.COMPLETED
    for run_dir in found:
        freed = remove_run(run_dir)
        notices.say(f"{visible(run_dir.name)} is deleted; {size(freed)} are free again")
    return ExitCode.COMPLETED


def _is_meant(found: list[RunDir]) -> bool:
    """Says whether the person means it. Raises UsageError where nobody can be asked."""
    from halos_backend.client.remove import what_is_lost  # pydantic: 0.1 s

    runs = plural(len(found), "run")
    lines = [f"  {visible(lost.run_dir.name)}: {loses(lost)}" for lost in what_is_lost(found)]
    return agrees(
        "\n".join([*lines, f"delete {runs} for good?"]),
        without=f"deleting {runs} for good needs --yes",
    )
