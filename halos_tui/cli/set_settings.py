"""This verb is `set`: it changes settings of a run, from a round on."""

from __future__ import annotations

from typing import Annotated

import typer
from halos_backend.errors import ExitCode
from halos_backend.events import SettingsChanged
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState

from halos_tui.cli import asking, completing
from halos_tui.cli.options import RunName, RunsDir, runs_root
from halos_tui.commands import command_for
from halos_tui.control import requests
from halos_tui.formatting import setting_changes, visible
from halos_tui.headless import notices


def command(
    run: RunName,
    assignments: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE...",
            help="As for --set: train.lr=1e-6.",
            autocompletion=completing.settings_of_run,
        ),
    ],
    from_round: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="First round it holds for; by default the first it can.",
            autocompletion=completing.coming_rounds,
        ),
    ] = None,
    runs_dir: RunsDir = None,
) -> int:
    """Change settings of a run from a round on, by default the next.

    A failed run's change holds for the round that failed where it still can. A change that cannot
    be made is refused with the reason, and nothing changes (exit code 2). KEY=default makes a
    setting's default hold again, and turns off what may be absent. KEY=before takes its newest
    change back. The output says what the value is.
    """
    run_dir, seen = asking.look_at(runs_root(runs_dir), run)
    taken = requests.take_back(seen.state, assignments, from_round)
    request = requests.set_request(run_dir, seen, taken.assignments, taken.from_round)
    defaults = requests.defaults_taken_by(seen.state, request, assignments)
    for sentence in (*taken.said, *defaults):
        notices.say(visible(sentence))
    event = asking.ask_seen(run_dir, seen, request)
    if isinstance(event, SettingsChanged):
        _say_what_changed(run_dir, seen.state, event)
    return ExitCode.COMPLETED


def _say_what_changed(run_dir: RunDir, state: RunState, event: SettingsChanged) -> None:
    for path, pair in event.changes.items():
        notices.say(visible(f"{setting_changes({path: pair})} from round {event.from_round}"))
    for sentence in event.consequences:
        notices.say(visible(f"  {sentence}"))
    if state.status in ("paused", "failed"):
        notices.say(f"the run is {state.status}; go on: {command_for(run_dir, 'resume')}")
