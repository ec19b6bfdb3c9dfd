"""What three screens look like, to the last cell, in three sizes.

After a wanted change: `UPDATE_SNAPSHOTS=1 make test`, then look at the pictures in a browser.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from halos_backend import clock
from halos_backend.store.run_dir import RunDir
from textual.pilot import Pilot

from benchmarks.made_events import Shape
from benchmarks.made_runs import STARTED_T, make_run
from halos_tui.app import HalosApp
from halos_tui.app_options import AppOptions
from tests.support.app_fixtures import until_shown

PICTURES = Path(__file__).parent / "snapshots"
SIZES = ((80, 24), (120, 40), (200, 60))
RUNS = Path("runs")
SHOWN = {"runs": "3 runs", "run": "reward", "completions": "sort "}
NUM_SAME = 4
OF_THIS_PICTURE = re.compile(r"terminal-\d+")


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A place whose name is on no screen, at a time that never changes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(clock, "now", lambda: STARTED_T + 600)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("screen", SHOWN)
def test_a_screen_looks_as_it_did(somewhere: None, screen: str, size: tuple[int, int]) -> None:
    picture = asyncio.run(picture_of(screen, size))
    pinned = PICTURES / f"{screen}-{size[0]}x{size[1]}.svg"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        PICTURES.mkdir(exist_ok=True)
        pinned.write_text(picture)
    assert texts_of(picture) == texts_of(pinned.read_text())
    assert picture == pinned.read_text(), "the texts are the same, but not their places or styles"


async def picture_of(screen: str, size: tuple[int, int]) -> str:
    for number, name in enumerate(("first-try", "more-rounds", "kto-on-math")):
        shape = Shape(num_rounds=4 + 8 * number, num_steps=40, num_groups=20)
        make_run(RUNS / name, shape, started_t=STARTED_T + number, seed=number)
    run = RunDir(RUNS / "kto-on-math")
    app = HalosApp(AppOptions(RUNS), run=None if screen == "runs" else run)
    async with app.run_test(size=size) as pilot:
        if screen == "completions":
            app.open_completions(run)
        await until_shown(pilot, SHOWN[screen])
        return await still_picture(app, pilot)


async def still_picture(app: HalosApp, pilot: Pilot[int]) -> str:
    """Once nothing has changed for a while."""
    pictures = [""]
    while len(pictures) < NUM_SAME or len(set(pictures[-NUM_SAME:])) > 1:
        await pilot.pause(0.3)
        pictures.append(OF_THIS_PICTURE.sub("terminal", app.export_screenshot(title="halos-tui")))
    return pictures[-1] + "\n"


def texts_of(picture: str) -> list[str]:
    """Returns the texts; the run's size is another with each setting that there is."""
    texts = re.findall(r"<text [^>]*>([^<]*)</text>", picture)
    return [re.sub(r"\d(?=[\d&#160;]*KiB)", "0", text) for text in texts]
