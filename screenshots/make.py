"""Takes pictures of the real app for the README: `make.py [NAME ...]` writes `NAME.svg` here.

It starts three small runs of the demo, and opens each screen on them as a person would.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from halos_backend.errors import ExitCode
from halos_backend.store.registry import load_state
from halos_backend.store.run_dir import RunDir
from textual.pilot import Pilot

from halos_tui.app import HalosApp
from halos_tui.app_options import AppOptions

HERE = Path(__file__).parent
SIZE = (120, 40)
LOSSES = {"sorting-dpo": "dpo", "sorting-kto": "kto", "sorting-grpo": "grpo"}
SHOWN = "sorting-dpo"
NUM_ROUNDS = 12
NUM_FINISHED = 6
"""Pictures are taken while the run is at work, after so many rounds."""
DEADLINE_S = 900.0
PLACE = Path(tempfile.gettempdir()) / "halos"
"""It is short, and the same on all machines, since it stands in the pictures."""
SETTLED_S = 2.0
KEYS: dict[str, tuple[str, ...]] = {
    "run": (),
    "completions": ("c",),
    "tweak": ("t",),
    "logs": ("l",),
    "metrics": ("m",),
    "changes": ("h",),
    "new_run": ("n",),
    "help": ("question_mark",),
}
"""These keys open each screen from the run screen; the list of runs comes before it."""
OF_THIS_PICTURE = re.compile(r"terminal-\d+")


def halos(*arguments: str) -> int:
    command = [sys.executable, "-m", "halos_tui", *arguments]
    return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode


def start_runs() -> None:
    for name, loss in LOSSES.items():
        rounds = ("--rounds", str(NUM_ROUNDS))
        code = halos("demo", "--loss", loss, *rounds, "--name", name, "--no-ui", "--detach")
        if code != ExitCode.UNFINISHED:
            raise SystemExit(f"the run {name} did not start (exit code {code})")


def wait_for_rounds(run: RunDir) -> None:
    end = time.monotonic() + DEADLINE_S
    while len(load_state(run).rounds) <= NUM_FINISHED:
        if time.monotonic() > end:
            raise SystemExit(f"{run.path} has no {NUM_FINISHED} rounds yet")
        time.sleep(1.0)


async def take(name: str, root: Path) -> None:
    run = None if name == "runs" else RunDir(root / SHOWN)
    app = HalosApp(AppOptions(root), run=run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        for key in KEYS.get(name, ()):
            await pilot.press(key)
            await settle(pilot)
        picture = app.export_screenshot(title=f"halos-tui: {name.replace('_', ' ')}")
    (HERE / f"{name}.svg").write_text(OF_THIS_PICTURE.sub("terminal", picture) + "\n")


async def settle(pilot: Pilot[int]) -> None:
    end = time.monotonic() + SETTLED_S
    while time.monotonic() < end:
        await pilot.pause(0.1)


def main() -> None:
    names = sys.argv[1:] or ["runs", *KEYS]
    if unknown := set(names) - {"runs", *KEYS}:
        raise SystemExit(
            f"no screen {', '.join(sorted(unknown))}; there are runs, {', '.join(KEYS)}"
        )
    try:
        PLACE.mkdir()
    except FileExistsError:
        raise SystemExit(f"{PLACE} exists; move it away first") from None
    os.environ |= {
        "HALOS_RUNS_DIR": str(PLACE / "runs"),
        "HALOS_CACHE_DIR": str(PLACE / "cache"),
        "XDG_CONFIG_HOME": str(PLACE / "config"),
    }
    os.environ.pop("NO_COLOR", None)
    try:
        take_all(names, PLACE / "runs")
    finally:
        for name in LOSSES:
            halos("abort", name)
        shutil.rmtree(PLACE)


def take_all(names: list[str], root: Path) -> None:
    start_runs()
    wait_for_rounds(RunDir(root / SHOWN))
    for name in names:
        asyncio.run(take(name, root))


if __name__ == "__main__":
    main()
