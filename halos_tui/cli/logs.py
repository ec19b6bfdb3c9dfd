"""This verb is `logs`: it prints what a stage's process wrote."""

from __future__ import annotations

import sys
import time
from typing import Annotated, BinaryIO

import typer
from halos_backend.errors import UsageError
from halos_backend.events import STAGES, Stage
from halos_backend.store.liveness import living_supervisor
from halos_backend.store.registry import check_readable, load_state
from halos_backend.store.run_dir import RunDir, find_run
from halos_backend.store.state import RunState

from halos_tui.cli import completing
from halos_tui.cli.options import Round, RunName, RunsDir, runs_root
from halos_tui.formatting import visible_lines
from halos_tui.headless import notices

POLL_S = 0.1
CHUNK_BYTES = 1 << 16


def command(
    run: RunName,
    stage: Annotated[
        str | None,
        typer.Argument(
            help="sample, label or train; by default the newest.", autocompletion=completing.stages
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on until the attempt ends.")
    ] = False,
    round: Round = None,
    attempt: Annotated[int | None, typer.Option(help="Attempt; by default the newest.")] = None,
    runs_dir: RunsDir = None,
) -> None:
    """Print a stage's output.

    A pipe gets it as it is; a terminal gets what could steer it as escapes.
    """
    run_dir = find_run(runs_root(runs_dir), run)
    state = check_readable(load_state(run_dir), run_dir)
    number, name = _choose(state, stage, round)
    newest = state.rounds[number - 1].stages[name].attempt
    path = run_dir.attempt(number, name, attempt or newest).log
    if not path.is_file():
        raise UsageError(
            f"{path}: there is no such log; round {number} {name} has attempts 1 to {newest}"
        )
    try:
        with path.open("rb") as log:
            _copy(log)
            while follow and _is_running(run_dir, number, name, attempt or newest):
                time.sleep(POLL_S)
                _copy(log)
            _copy(log)
    except KeyboardInterrupt:
        return
    if path.stat().st_size == 0:
        is_running = _is_running(run_dir, number, name, attempt or newest)
        notices.say(
            f"{name} of round {number}, attempt {attempt or newest}, "
            + ("has written nothing yet" if is_running else "wrote nothing")
        )


def _choose(state: RunState, stage: str | None, round: int | None) -> tuple[int, Stage]:
    """Picks the newest stage that fits; a running one first. Raises UsageError where none does."""
    if stage is not None and stage not in STAGES:
        raise UsageError(f"no stage '{stage}'; there are {', '.join(STAGES)}")
    found = [
        (entry.status == "running", entry.started_t, number.round, entry.stage)
        for number in state.rounds
        for entry in number.stages.values()
        if stage in (None, entry.stage) and round in (None, number.round)
    ]
    if not found:
        what = f"{stage or 'stage'}{f' of round {round}' if round else ''}"
        raise UsageError(f"the run {state.run} has not started a {what} yet")
    _, _, number, name = max(found)
    return number, name


def _is_running(run_dir: RunDir, round: int, stage: Stage, attempt: int) -> bool:
    supervisor = living_supervisor(run_dir)
    entry = load_state(run_dir).rounds[round - 1].stages[stage]
    return entry.status == "running" and entry.attempt == attempt and supervisor is not None


def _copy(log: BinaryIO) -> None:
    """Copies everything from here to the end."""
    out = sys.stdout
    is_terminal = out.isatty()
    while content := log.read(CHUNK_BYTES):
        if is_terminal:
            content += log.readline()  # whole lines, so that no character is cut in two
            out.write(visible_lines(content.decode(errors="backslashreplace")))
        else:
            out.buffer.write(content)
    out.flush()
