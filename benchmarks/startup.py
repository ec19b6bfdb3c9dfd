"""Measures the start: `--version`, `status` and `list` of 50 runs against a bare `import typer`.

Prints one JSON object. Each is a process of its own; the four take turns, so that a busy machine
slows all alike.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NUM_RUNS = 50
NUM_ROUNDS = 3
NUM_TURNS = 15
RATIO_LIMIT = 3.0

STAGES = ("sample", "label", "train")
SETTINGS = {"loop": {"num_rounds": NUM_ROUNDS}, "train": {"loss": {"kind": "dpo"}}}
PROCESS = {"pid": 4_000_000, "start_time": 1.0, "boot_id": "gone", "host": "elsewhere"}


def journal(name: str) -> list[dict[str, object]]:
    """Returns the events of a completed run."""
    events: list[dict[str, object]] = [
        {
            "type": "RunCreated",
            "schema_version": 1,
            "run": name,
            "version": "0.1.0",
            "settings": SETTINGS,
            "num_prompts": 1000,
            "num_too_long": 0,
            "prompts_sha256": "p",
            "policy_sha256": "q",
            "checkpoint_bytes": 10,
        },
        {"type": "SupervisorStarted", "generation": 1, "process": PROCESS, "version": "0.1.0"},
    ]
    for number in range(1, NUM_ROUNDS + 1):
        round = {"round": number, "cursor": 0, "num_prompts": 128, "settings": SETTINGS}
        events.append({"type": "RoundStarted", **round})
        for stage in STAGES:
            about = {"round": number, "stage": stage, "attempt": 1}
            summary = {"reward_mean": 0.5, "num_feedback": 128, "loss_last": 0.6}
            started = {"process": PROCESS, "command": ["true"]}
            events.append({"type": "StageStarted", **about, **started})
            ended = {"elapsed_s": 10.0, "summary": summary}
            events.append({"type": "StageFinished", **about, **ended})
        finished = {"round": number, "checkpoint": None, "metrics": {}, "untrained": "no feedback"}
        events.append({"type": "RoundFinished", **finished})
    events.append({"type": "RunCompleted", "reason": "all rounds are done"})
    return [{"t": 1.8e9 + i, **event} for i, event in enumerate(events)]


def make_runs(root: Path) -> None:
    for number in range(NUM_RUNS):
        path = root / f"run-{number:02d}"
        path.mkdir()
        lines = [json.dumps(event) for event in journal(path.name)]
        (path / "events.jsonl").write_text("\n".join(lines) + "\n")


def wall_s(command: list[str], environment: dict[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - begun


def main() -> None:
    halos = [sys.executable, "-m", "halos_tui"]
    commands = {
        "import typer": [sys.executable, "-c", "import typer"],
        "--version": [*halos, "--version"],
        "status": [*halos, "status", "run-07"],
        "list": [*halos, "list"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as root:
        make_runs(Path(root))
        environment = {**os.environ, "HALOS_RUNS_DIR": root}
        for command in commands.values():
            wall_s(command, environment)  # byte code is compiled, files are in the cache
        for _ in range(NUM_TURNS):
            for name, command in commands.items():
                times[name].append(wall_s(command, environment))
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    bare = medians.pop("import typer")
    ratios = {name: round(taken / bare, 2) for name, taken in medians.items()}
    report = {
        "benchmark": "startup",
        "num_runs": NUM_RUNS,
        "import_typer_s": round(bare, 4),
        "seconds": {name: round(taken, 4) for name, taken in medians.items()},
        "ratios": ratios,
        "ratio_limit": RATIO_LIMIT,
        "within_limit": all(ratio <= RATIO_LIMIT for ratio in ratios.values()),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
