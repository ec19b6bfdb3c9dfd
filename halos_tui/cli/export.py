"""This verb is `export`: it writes a run's samples and feedback for other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from halos_backend.errors import UsageError
from halos_backend.store.registry import check_readable, load_state
from halos_backend.store.run_dir import RunDir, find_run
from halos_backend.store.state import RunState

from halos_tui.cli import completing
from halos_tui.cli.options import RunName, RunsDir, runs_root
from halos_tui.completions.round_rows import RoundRows, sampled_rounds
from halos_tui.headless.export.feedback import write_halos, write_trl
from halos_tui.headless.export.tables import write_csv

Format = Literal["halos", "trl", "csv"]


def command(
    run: RunName,
    to: Annotated[
        Format,
        typer.Option(
            help="halos: JSON arrays for HALOs' loaders. trl: JSON Lines of prompts, preference or"
            " unpaired preference. csv: all completions and all rounds."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            help="A new or empty directory; by default ./RUN-FORMAT.",
            autocompletion=completing.folders,
        ),
    ] = None,
    round: Annotated[
        int | None,
        typer.Option(help="One round; by default all.", autocompletion=completing.rounds),
    ] = None,
    runs_dir: RunsDir = None,
) -> None:
    """Write samples and feedback for other programs.

    Prints the paths of the files it wrote. Only csv has the completions on which the result was
    scored, since nothing is trained on them.
    """
    run_dir = find_run(runs_root(runs_dir), run)
    state = check_readable(load_state(run_dir), run_dir)
    rounds = _exportable(run_dir, state, round)
    output = output or Path(f"{run_dir.name}-{to}")
    _make_empty(output)
    trained = [rows for rows in rounds if rows.round.closing is None]
    match to:
        case "halos":
            written = write_halos(output, trained, _dataset(state))
        case "trl":
            written = write_trl(output, trained)
            if state.settings["label"]["feedback"]["kind"] == "scalar":
                print(  # noqa: T201
                    "TRL has no row for whole groups with rewards: prompts only; --to csv has all",
                    file=sys.stderr,
                )
        case "csv":
            written = write_csv(output, rounds)
    sys.stdout.write("".join(f"{path}\n" for path in written))


def _exportable(run_dir: RunDir, state: RunState, number: int | None) -> list[RoundRows]:
    """Returns the rounds whose sampling has finished. Raises UsageError where there are none."""
    found = [
        rows
        for rows in sampled_rounds(run_dir, state)
        if rows.round.stages["sample"].status == "finished" and number in (None, rows.round.round)
    ]
    if not found:
        which = "no round" if number is None else f"no round {number}"
        raise UsageError(f"the run {run_dir.name} has {which} with finished samples yet")
    return found


def _make_empty(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} exists and is not empty; name another with --output")
    output.mkdir(parents=True, exist_ok=True)


def _dataset(state: RunState) -> str:
    """Names the data set as HALOs does: source and split."""
    prompts = state.settings["prompts"]
    return f"{Path(prompts['path']).stem}_{prompts['split']}"
