"""This stage computes nothing: what is left of a round is the supervisor's own time.

It writes the outputs that the contract asks for, and when it began and ended. `stub.json` in the
run directory says how long the attempt `round/stage/attempt` lasts, and whether it ignores SIGTERM.
"""

# ruff: noqa: E402  the time is taken first

import time

BEGUN = time.time()

import hashlib
import json
import os
import signal
import struct
import sys
from pathlib import Path
from typing import Any

SUMMARIES: dict[str, dict[str, Any]] = {
    "sample": {"num_prompts": 1, "num_completions": 2, "length_mean": 3.0},
    "label": {"num_completions": 2, "num_unscored": 0, "num_feedback": 1, "reward_mean": 0.5},
    "train": {"num_steps": 1, "loss_last": 0.5},
}
OUTPUTS = {
    "sample": ["completions.jsonl"],
    "label": ["scores.jsonl", "feedback.jsonl"],
    "train": ["checkpoint/model.safetensors", "trainer_state/state.bin"],
}


def main() -> None:
    attempt = Path(sys.argv[1])
    job = json.loads((attempt / "job.json").read_text())
    plan = json.loads((attempt.parents[3] / "stub.json").read_text())
    how = plan.get(f"{job['round']}/{job['stage']}/{job['attempt']}", {})
    if how.get("ignores_sigterm"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    write_events(attempt, job, plan.get("events", 0))
    work(attempt, job, how)
    write_done(attempt, job, how.get("checkpoint_bytes", 0))
    ended = {"begun": BEGUN, "ended": time.time()}
    (attempt / "times.json").write_text(json.dumps(ended))
    os._exit(0)


def event(job: dict[str, Any], done: int) -> str:
    about = {"round": job["round"], "stage": job["stage"], "attempt": job["attempt"]}
    made = {"type": "Progressed", "t": time.time(), "done": done, "total": 1000, "unit": "steps"}
    return json.dumps(made | about) + "\n"


def write_events(attempt: Path, job: dict[str, Any], count: int) -> None:
    with (attempt / "events.jsonl").open("a") as file:
        file.writelines(event(job, done) for done in range(count))


def work(attempt: Path, job: dict[str, Any], how: dict[str, Any]) -> None:
    """Waits until the time is over or the file `release` is there; writes ten events a second."""
    end = time.monotonic() + how.get("seconds", 0.0)
    done = 0
    while time.monotonic() < end and not (attempt / "release").exists():
        done += 1
        write_events(attempt, job, 0)
        with (attempt / "events.jsonl").open("a") as file:
            file.write(event(job, done))
        time.sleep(0.1)


def write_done(attempt: Path, job: dict[str, Any], checkpoint_bytes: int) -> None:
    files = []
    for name in OUTPUTS[job["stage"]]:
        path = attempt / name
        path.parent.mkdir(exist_ok=True)
        size = max(4, checkpoint_bytes if name.endswith("safetensors") else 4)
        header = json.dumps(
            {"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}
        )
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header.encode())
            file.truncate(8 + len(header) + size)  # sparse: reading it costs what a file costs
        files.append({"name": name, "bytes": path.stat().st_size, "sha256": digest_of(path)})
    manifest = {"files": files, "summary": SUMMARIES[job["stage"]], "schema_version": 1}
    (attempt / "DONE.tmp").write_text(json.dumps(manifest))
    (attempt / "DONE.tmp").rename(attempt / "DONE")


def digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


if __name__ == "__main__":
    main()
