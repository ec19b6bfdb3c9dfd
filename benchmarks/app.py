"""Measures the app on a real pseudo-terminal of 120x40: speed, memory, and the bytes that it sends.

It prints one JSON object; with names (`app.py start attach`) only those parts. Times are those at
which bytes came out of the terminal; what they show is found afterwards, by replaying them.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.made_runs import LiveRun, Shape, make_run
from benchmarks.run_writer import RunWriter, play_rounds
from tests.support.emulator import Emulator
from tests.support.terminal import Chunk, Terminal

COLUMNS, LINES = 120, 40
NUM_TURNS = 7
BIG = Shape(num_rounds=1000, num_steps=440, num_progressed=60, num_groups=64)
SMALL = Shape(num_rounds=20)
NUM_RUNS = 1000
WATCHED_S = 60.0
STEPS_PER_S = 5
FLOOD_PER_S = 10_000
NUM_PRESSES = 200
SCROLL_S = 20.0
SCROLL_KEYS_PER_S = 20
GROWTH_ROUNDS = 1000
GROWTH_STEPS = 50
WARM_UP_ROUNDS = 100
MB = 1e6
LIMITS = {
    "first_paint_s": 0.6,
    "attach_s": 1.0,
    "attach_pss_mb": 100.0,
    "list_s": 0.3,
    "key_p99_ms": 50.0,
    "watched_percent_of_a_core": 3.0,
    "watched_pss_mb": 100.0,
    "watched_bytes_per_s": 2000.0,
    "growth_mb": 5.0,
    "scrolling_bytes_per_s": 20_000.0,
}


@contextmanager
def opened(root: Path, *arguments: str) -> Iterator[Terminal]:
    command = [sys.executable, "-m", "halos_tui", *arguments]
    home = root.parent / "home"
    environment = {
        **os.environ,
        "HALOS_RUNS_DIR": str(root),
        "XDG_CONFIG_HOME": str(home),
        "COLORTERM": "truecolor",
    }
    with Terminal(command, environment=environment, columns=COLUMNS, lines=LINES) as terminal:
        yield terminal


def first_time(chunks: Sequence[Chunk], holds: Callable[[Emulator], bool]) -> float:
    """Returns when the screen first was so."""
    emulator = Emulator(COLUMNS, LINES)
    for chunk in chunks:
        emulator.feed(chunk.content)
        if holds(emulator):
            return chunk.t
    raise SystemExit(f"it never shows that:\n{emulator.text}")


def wall_s(command: Sequence[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - begun


def measure_start(root: Path) -> dict[str, Any]:
    """Measures the first paint, in turns with a bare import of the library that paints."""
    make_run(root / "a-run", SMALL)
    with opened(root) as terminal:
        terminal.wait_for("a-run")  # byte code is compiled, files are in the cache
    paints, lists, imports = [], [], []
    for _ in range(NUM_TURNS):
        imports.append(wall_s([sys.executable, "-c", "import textual.app"]))
        with opened(root) as terminal:
            terminal.wait_for("a-run")
            chunks = list(terminal.chunks)
            paints.append(first_time(chunks, lambda seen: bool(seen.text.strip())))
            lists.append(first_time(chunks, lambda seen: "a-run" in seen.text))
            paints[-1] -= terminal.started_t
            lists[-1] -= terminal.started_t
            terminal.press("q")
            terminal.wait()
    paint, bare = statistics.median(paints), statistics.median(imports)
    return {
        "first_paint_s": round(paint, 3),
        "first_run_listed_s": round(statistics.median(lists), 3),
        "import_textual_app_s": round(bare, 3),
        "first_paint_against_import": round(paint / bare, 2),
    }


def measure_attach(root: Path) -> dict[str, Any]:
    """Measures from the command to the last byte of a screen that then keeps still."""
    run = make_run(root / "big", BIG)
    times, sizes = [], []
    for _ in range(3):
        with opened(root, "attach", run.name) as terminal:
            terminal.wait_for(f"{BIG.num_rounds}")
            terminal.settle(3.0)
            times.append(terminal.chunks[-1].t - terminal.started_t)
            sizes.append(terminal.pss_bytes / MB)
    reading = [wall_s([sys.executable, "-c", READ_ALL, str(run.path)])]
    return {
        "num_rounds": BIG.num_rounds,
        "num_attempt_events": BIG.num_attempt_events,
        "attach_s": round(statistics.median(times), 3),
        "attach_pss_mb": round(max(sizes), 1),
        "json_loads_of_all_events_s": round(min(reading), 1),
    }


READ_ALL = """
import json, pathlib, sys
for path in pathlib.Path(sys.argv[1]).rglob("events.jsonl"):
    for line in path.open("rb"):
        json.loads(line)
"""


def measure_list(root: Path) -> dict[str, Any]:
    """Measures a thousand runs, from the first paint of the app to the list of them all."""
    for number in range(NUM_RUNS):
        make_run(root / f"run-{number:04d}", SMALL, seed=number)
    times, totals = [], []
    for _ in range(3):
        with opened(root) as terminal:
            terminal.wait_for(f"{NUM_RUNS:,} runs")
            terminal.settle(2.0)
            painted = first_time(terminal.chunks, lambda seen: bool(seen.text.strip()))
            listed = first_time(terminal.chunks, lambda seen: f"{NUM_RUNS:,} runs" in seen.text)
            times.append(listed - painted)
            totals.append(listed - terminal.started_t)
            size = terminal.pss_bytes / MB
    return {
        "num_runs": NUM_RUNS,
        "list_s": round(statistics.median(times), 3),
        "from_the_command_s": round(statistics.median(totals), 3),
        "pss_mb": round(size, 1),
    }


def measure_keys(root: Path) -> dict[str, Any]:
    """Measures from a key to the cursor in the table, while two events a step flood the journal."""
    flood = RunWriter(root, steps_per_s=FLOOD_PER_S / 2, num_steps=10**7, batch=50)
    with flood as run, opened(root, "attach", run.name) as terminal:
        terminal.wait_for("training")
        time.sleep(3.0)
        numbers = random.Random(0)
        taken = [press_and_time(terminal, numbers) for _ in range(NUM_PRESSES)]
    ordered = sorted(taken)
    return {
        "events_per_s": FLOOD_PER_S,
        "num_presses": len(ordered),
        "key_median_ms": round(1000 * statistics.median(ordered), 1),
        "key_p99_ms": round(1000 * ordered[int(0.99 * (len(ordered) - 1))], 1),
    }


def press_and_time(terminal: Terminal, numbers: random.Random) -> float:
    """Times `/`, which opens the prompt for a round as only a key does; escape closes it again."""
    before = len(terminal.chunks)
    begun = time.monotonic()
    terminal.press("/")
    shown = terminal.wait_for_bytes(b"ump to round", after=before)
    terminal.press("escape")
    time.sleep(0.3 + 0.25 * numbers.random())  # so that keys meet the reader at any moment
    return shown.t - begun


def measure_watching(root: Path) -> dict[str, Any]:
    """Measures what the app takes of a core, of memory and of the line while a person watches."""
    with (
        RunWriter(root, steps_per_s=STEPS_PER_S) as run,
        opened(root, "attach", run.name) as terminal,
    ):
        terminal.wait_for("training")
        time.sleep(5.0)
        whole = whole_screen_bytes(terminal)
        time.sleep(5.0)
        cpu, sent = terminal.cpu_s, terminal.num_bytes
        time.sleep(WATCHED_S)
        cpu, sent = terminal.cpu_s - cpu, terminal.num_bytes - sent
        size = terminal.pss_bytes / MB
        scrolled = scrolling_bytes_per_s(terminal)
    return {
        "watched_percent_of_a_core": round(100 * cpu / WATCHED_S, 2),
        "watched_pss_mb": round(size, 1),
        "watched_bytes_per_s": round(sent / WATCHED_S),
        "whole_screen_bytes": whole,
        "whole_screens_at_4_a_second_bytes_per_s": 4 * whole,
        "scrolling_keys_per_s": SCROLL_KEYS_PER_S,
        "scrolling_bytes_per_s": scrolled,
    }


def whole_screen_bytes(terminal: Terminal) -> int:
    """Counts what painting all of it takes: after a change of size nothing is known of the
    terminal.
    """
    before = terminal.num_bytes
    terminal.resize(COLUMNS, LINES - 1)
    time.sleep(1.0)
    terminal.resize(COLUMNS, LINES)
    middle = terminal.num_bytes
    time.sleep(1.0)
    return max(middle - before, terminal.num_bytes - middle)


def scrolling_bytes_per_s(terminal: Terminal) -> int:
    """Scrolls line by line through the newest round's completions."""
    terminal.press("c")
    terminal.wait_for("reward")
    terminal.settle(0.7)
    before = terminal.num_bytes
    for number in range(int(SCROLL_S * SCROLL_KEYS_PER_S)):
        terminal.press("down" if number % 100 < 90 else "up")
        time.sleep(1 / SCROLL_KEYS_PER_S)
    return round((terminal.num_bytes - before) / SCROLL_S)


def measure_growth(root: Path) -> dict[str, Any]:
    """Measures rounds of 50 steps, two events each, as fast as the app reads them."""
    shape = Shape(num_rounds=3, num_planned=2000, num_groups=8)
    live = LiveRun(make_run(root / "live", shape, is_complete=False), shape)
    with opened(root, "attach", "live") as terminal:
        terminal.wait_for("live")
        play_rounds(live, WARM_UP_ROUNDS, num_steps=GROWTH_STEPS)
        time.sleep(3.0)
        before = terminal.own_bytes
        play_rounds(live, GROWTH_ROUNDS, num_steps=GROWTH_STEPS)
        terminal.wait_for(f"{3 + WARM_UP_ROUNDS + GROWTH_ROUNDS}")
        time.sleep(5.0)
        after = terminal.own_bytes
    return {
        "num_rounds": GROWTH_ROUNDS,
        "num_events": 2 * GROWTH_STEPS * GROWTH_ROUNDS,
        "growth_mb": round((after - before) / MB, 2),
    }


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "start": measure_start,
    "list": measure_list,
    "attach": measure_attach,
    "keys": measure_keys,
    "watching": measure_watching,
    "growth": measure_growth,
}


def main() -> None:
    report: dict[str, Any] = {"benchmark": "app", "columns": COLUMNS, "lines": LINES}
    for name in sys.argv[1:] or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder).resolve() / "runs"
            root.mkdir()
            report[name] = PARTS[name](root)
    found = {
        key: value
        for part in report.values()
        if isinstance(part, dict)
        for key, value in part.items()
    }
    report["limits"] = LIMITS
    report["over_limit"] = [name for name, limit in LIMITS.items() if found.get(name, 0) > limit]
    print(json.dumps(report))


if __name__ == "__main__":
    main()
