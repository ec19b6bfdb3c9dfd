"""A walk through all screens of runs in every state, on a terminal of 80x24 characters."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from halos_backend.events import RoundStarted, RunFailed, RunPaused, StageFailed, StageStarted
from halos_backend.records import Group
from halos_backend.store.run_dir import RunDir
from textual.pilot import Pilot
from textual.widgets import Input

from benchmarks.made_events import GONE, ROUND_S, Shape, make_settings
from benchmarks.made_runs import (
    STARTED_T,
    LiveRun,
    append,
    make_groups,
    make_run,
    write_groups,
)
from halos_tui.app import HalosApp
from halos_tui.widgets.footer import Footer
from halos_tui.widgets.painted import Painted
from tests.support.app_fixtures import drive, screen_text, until
from tests.support.made_run import MadeRun
from tests.support.shell_fixtures import shell
from tests.support.visits import VISITS, leave, visit

SHAPE = Shape(num_rounds=6, num_steps=20, num_planned=9)
ENDED_T = STARTED_T + ROUND_S * SHAPE.num_rounds
TEXT = "sort these words by length and name the longest of all that you have seen"
"""Answers have no figures, so that every figure on a screen is the app's own."""
CUT = re.compile(r"(?<![\w.-])\d[\d.,]*%?…|  …")
"""A figure with something left out in it, or nothing of what stands behind one."""
HIDDEN = {
    "completed": {"tweak", "a value", "a choice"},
    "begun": {"completions", "one completion", "a dialog"},
}
"""Screens that a run in that state has no use for, whose keys say why."""
OTHER_TEXTS = {
    "begun": {"metrics": "no values yet", "logs": "nothing is written yet"},
    "failed": {"logs": "Traceback"},
}


def running(path: Path) -> RunDir:
    live = LiveRun(finished_rounds(path), SHAPE)
    live.start_training()
    live.train(20)
    return live.dir


def paused(path: Path) -> RunDir:
    run_dir = finished_rounds(path)
    append(run_dir.events, [RunPaused(t=ENDED_T, reason="by its owner, after round 6")])
    return run_dir


def failed(path: Path) -> RunDir:
    run_dir = finished_rounds(path)
    about: dict[str, Any] = {"round": 7, "stage": "sample", "attempt": 1}
    reason = "torch.OutOfMemoryError: tried to allocate 2.00 GiB"
    run_dir.attempt(7, "sample", 1).path.mkdir(parents=True)
    run_dir.attempt(7, "sample", 1).log.write_text(f"Traceback\n{reason}\n")
    append(
        run_dir.events,
        [
            RoundStarted(
                t=ENDED_T, round=7, cursor=768, num_prompts=128, settings=make_settings(SHAPE)
            ),
            StageStarted(t=ENDED_T, process=GONE, command=["true"], **about),
            StageFailed(t=ENDED_T, reason=reason, exit_code=1, last_lines=[reason], **about),
            RunFailed(t=ENDED_T, reason=f"{reason} (3 attempts)"),
        ],
    )
    return run_dir


def completed(path: Path) -> RunDir:
    return finished_rounds(path, is_complete=True)


def finished_rounds(path: Path, *, is_complete: bool = False) -> RunDir:
    """Of six rounds of nine, the last two with completions on disk."""
    run_dir = make_run(path, SHAPE, is_complete=is_complete)
    numbers = random.Random(0)
    for round in (1, 5, 6):
        write_groups(run_dir, round, [*in_words(make_groups(numbers, round, 8))])
    return run_dir


def in_words(groups: Sequence[Group]) -> Iterator[Group]:
    for place, group in enumerate(groups):
        completions = tuple(
            msgspec.structs.replace(one, text=" ".join(TEXT.split()[: 3 + (place + number) % 12]))
            for number, one in enumerate(group.completions)
        )
        prompt = ({"role": "user", "content": " ".join(TEXT.split()[place:])},)
        yield msgspec.structs.replace(group, prompt=prompt, completions=completions)


def begun(path: Path) -> RunDir:
    """In its first round, of which nothing is there yet."""
    run = MadeRun(path.parent, path.name, num_rounds=9, num_prompts=18)
    run.supervised()
    run.start_round(1)
    run.start_stage(1, "sample")
    run.dir.heartbeat.touch()
    return run.dir


STATES = (running, paused, failed, completed, begun)


def faults(app: HalosApp) -> list[str]:
    """What a person sees only a part of, and panels in which nothing is."""
    found = [line for line in screen_text(app).splitlines() if CUT.search(line)]
    for widget in app.screen.query(Painted):
        if widget.is_attached and widget.display and widget.content_size.area:
            found += faults_of(widget)
    return found


def faults_of(widget: Painted) -> Iterator[str]:
    width, height = widget.content_size
    rows = ["".join(glyph for glyph, _ in row) for row in widget.painting(width, height)]
    name = f"{type(widget).__name__} {widget.id}"
    yield from (f"{name} cuts off {row[width:]!r}" for row in rows if row[width:].strip())
    has_border = widget.is_framed and widget.styles.border_top[0]
    if has_border and not any(row.strip() for row in rows[:height]):
        yield f"{name} is empty"
    if isinstance(widget, Footer):
        whole = {f"{hint.key} {hint.title}" for hint in widget.shown or ()}
        shown = {part.strip() for row in rows for part in row.split("  ") if part.strip()}
        yield from (f"the footer cuts off {part!r}" for part in shown - whole)
    is_covered = isinstance(widget.app.focused, Input)  # by a question, on the last line
    has_keys = widget.styles.border_bottom[0] and widget.border_subtitle
    if has_border and has_keys and not is_covered:
        keys = str(widget.border_subtitle)
        if keys not in screen_text(cast("HalosApp", widget.app)):
            yield f"{name} cuts off {keys!r}"


SIZES = ((80, 24), (100, 30))
"""The second is the smallest one with boxes, in whose borders keys are."""


def walks() -> Iterator[Any]:
    """All states at both sizes; two of them also in a short run."""
    for state in STATES:
        for size in SIZES:
            is_short = size == SIZES[0] and state in (running, failed)
            name = f"{state.__name__}-{size[0]}x{size[1]}"
            yield pytest.param(state, size, id=name, marks=[] if is_short else pytest.mark.slow)


@pytest.mark.parametrize(("state", "size"), [*walks()])
def test_no_screen_cuts_a_figure_or_a_key_and_none_has_an_empty_panel(
    state: Callable[[Path], RunDir], size: tuple[int, int], tmp_path: Path
) -> None:
    run_dir = state(tmp_path / "runs" / state.__name__)
    hidden = HIDDEN.get(state.__name__, set())
    texts = OTHER_TEXTS.get(state.__name__, {})

    async def walk() -> None:
        async with shell(tmp_path / "runs", size=size) as (app, pilot):
            await until_whole(app, pilot, "the list")
            app.open_run(run_dir)
            for where, (keys, text) in VISITS.items():
                run_dir.heartbeat.touch()  # or it is stalled
                await leave(app, pilot)
                if where in hidden:
                    assert keys[0] not in app.screen.active_bindings
                    continue
                await visit(app, pilot, keys, texts.get(where, text))
                await until_whole(app, pilot, where)

    drive(walk())


async def until_whole(app: HalosApp, pilot: Pilot[int], where: str) -> None:
    """What is still being read may be empty for a moment."""
    seen: list[str] = []

    def is_whole() -> bool:
        seen[:] = faults(app)
        return not seen

    try:
        await until(pilot, is_whole)
    except AssertionError as error:
        raise AssertionError(f"{where}: {seen}\n{screen_text(app)}") from error
