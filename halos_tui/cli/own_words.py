"""These verbs are `title`, `note` and `tag`: a person's own words about a run."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from halos_backend.errors import ExitCode, UsageError
from halos_backend.store.own_words import change_own_words, read_own_words
from halos_backend.store.run_dir import find_run

from halos_tui.cli.options import RunName, RunsDir, runs_root
from halos_tui.formatting import visible

Text = Annotated[
    str | None, typer.Argument(help="The text, in quotes; '' takes it away. Without it: show it.")
]


def title(run: RunName, text: Text = None, runs_dir: RunsDir = None) -> int:
    """Give a run a title, which is shown beside its name.

    Its name stays, since forks and scripts refer to it.
    """
    run_dir = find_run(runs_root(runs_dir), run)
    if text is None:
        return _show(read_own_words(run_dir).title)
    change_own_words(run_dir, lambda words: words.with_title(text))
    return ExitCode.COMPLETED


def note(run: RunName, text: Text = None, runs_dir: RunsDir = None) -> int:
    """Write a note about a run, which is shown in the list of runs."""
    run_dir = find_run(runs_root(runs_dir), run)
    if text is None:
        return _show(read_own_words(run_dir).note)
    change_own_words(run_dir, lambda words: words.with_note(text))
    return ExitCode.COMPLETED


def tag(
    run: RunName,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="Tags; without any: show them.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take these tags away.")] = False,
    runs_dir: RunsDir = None,
) -> int:
    """Tag a run. In the list of runs, the filter tag:NAME shows runs with a tag."""
    run_dir = find_run(runs_root(runs_dir), run)
    found = tuple(names or ())
    if not found:
        if remove:
            raise UsageError("name the tags to take away")
        return _show(*read_own_words(run_dir).tags)
    kinds = {"fewer" if remove else "more": found}
    change_own_words(run_dir, lambda words: words.tagged(**kinds))
    return ExitCode.COMPLETED


def _show(*lines: str) -> int:
    sys.stdout.write("".join(f"{visible(line)}\n" for line in lines if line))
    return ExitCode.COMPLETED
