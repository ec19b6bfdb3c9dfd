"""`set`: change settings of a run, from a round on."""

from __future__ import annotations

from typing import Annotated

import typer
from halos_backend.errors import ExitCode, UsageError
from halos_backend.events import SettingsChanged
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import ENDED, RunState
from halos_backend.supervisor import control
from halos_backend.supervisor.asking import asker

from halos_tui.cli import asking
from halos_tui.cli.options import RunName, RunsDir, runs_root
from halos_tui.formatting import setting_changes, visible
from halos_tui.headless import notices


def command(
    run: RunName,
    assignments: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE...", help="As for --set: train.lr=1e-6.")
    ],
    from_round: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="First round it holds for; by default the first it can."
        ),
    ] = None,
    runs_dir: RunsDir = None,
) -> int:
    """Change settings of a run from a round on, by default the next.

    A failed run's change holds for the round that failed where it still can. Refused, with the
    reason and nothing changed, is what cannot be (exit code 2).
    """
    run_dir, seen = asking.look_at(runs_root(runs_dir), run)
    settings = _settings_to_change(run_dir, seen.state, from_round)
    request = control.Set(
        request_id=control.new_request_id(),
        by=asker(),
        assignments=asking.with_absolute_paths(settings, assignments),
        from_round=from_round,
    )
    event = asking.ask_seen(run_dir, seen, request)
    if isinstance(event, SettingsChanged):
        _say_what_changed(run_dir, seen.state, event)
    return ExitCode.COMPLETED


def _settings_to_change(
    run_dir: RunDir, state: RunState, from_round: int | None
) -> dict[str, object]:
    """Those of the round that the change is for. Raises UsageError for a round that is past."""
    if state.status in ENDED:
        hint = f"; {notices.command_for(run_dir, 'extend', '--rounds', 'N')} adds rounds"
        raise UsageError(
            f"the run {run_dir.name} is {state.status}{hint if state.status == 'completed' else ''}"
        )
    if from_round is None:
        failed = state.status == "failed"
        from_round = state.round_at_hand if failed else len(state.rounds) + 1
    if from_round < state.round_at_hand:
        raise UsageError(f"round {from_round} is past; the next is {len(state.rounds) + 1}")
    return state.settings_of(from_round)


def _say_what_changed(run_dir: RunDir, state: RunState, event: SettingsChanged) -> None:
    for path, pair in event.changes.items():
        notices.say(visible(f"{setting_changes({path: pair})} from round {event.from_round}"))
    for sentence in event.consequences:
        notices.say(visible(f"  {sentence}"))
    if state.status in ("paused", "failed"):
        notices.say(f"the run is {state.status}; go on: {notices.command_for(run_dir, 'resume')}")
