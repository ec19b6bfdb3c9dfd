"""A stage program for tests of the supervisor: Python's standard library only, a few ms long.

`fake.json` in the run directory says how each "round/stage/attempt" behaves; the rest succeed.
It keeps to the contract of DESIGN 7 by its own means, so that it also tests the contract.
"""

# ruff: noqa: T201  standard output is the attempt's log

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SUMMARIES = {
    "sample": {"num_prompts": 2, "num_completions": 4, "length_mean": 3.0},
    "label": {"num_completions": 4, "num_unscored": 0, "num_feedback": 2, "reward_mean": 0.5},
    "train": {"num_steps": 1, "loss_last": 0.5},
}


def main() -> int:
    attempt = Path(sys.argv[1])
    job = json.loads((attempt / "job.json").read_text())
    plan = attempt.parents[3] / "fake.json"
    behaviours = json.loads(plan.read_text()) if plan.exists() else {}
    key = f"{job['round']}/{job['stage']}/{job['attempt']}"
    print(f"stage {key}", flush=True)
    match behaviours.get(key, "succeed"):
        case "succeed":
            succeed(attempt, job)
        case "say why and fail":
            event = {"type": "AttemptFailed", "t": 1.0, "round": job["round"]}
            event |= {"stage": job["stage"], "attempt": job["attempt"], "reason": "no GPU is left"}
            (attempt / "events.jsonl").write_text(json.dumps(event) + "\n")
            return 1
        case "run out of memory" | "find a loss that is not finite" as words:
            event = {"type": "AttemptFailed", "t": 1.0, "round": job["round"]}
            event |= {"stage": job["stage"], "attempt": job["attempt"]}
            if words == "run out of memory":
                event |= {"reason": "the GPU is full", "cause": "out_of_memory"}
            else:
                event |= {"reason": "the loss is NaN", "cause": "non_finite"}
            (attempt / "events.jsonl").write_text(json.dumps(event) + "\n")
            return 1
        case "leave 1 row and fail" | "leave 2 rows and fail" | "leave 3 rows and fail" as words:
            (attempt / "completions.jsonl").write_text("{}\n" * int(words.split()[1]))
            return 1
        case "fail":
            print("it broke", file=sys.stderr)
            return 7
        case "fail with a corrupt journal":
            (attempt / "events.jsonl").write_bytes(b"rubbish\n")
            return 1
        case "leave no DONE":
            pass
        case "damage an output":
            succeed(attempt, job)
            output = outputs(attempt, job["stage"])[0]
            output.write_bytes(output.read_bytes()[:-1])
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hold":
            helper = subprocess.Popen(["sleep", "1000"], start_new_session=True)
            (attempt / "pids").write_text(json.dumps([os.getpid(), helper.pid]))
            hold(attempt)
            succeed(attempt, job)
        case "hold and fail":
            hold(attempt)
            return 7
        case "hold with all sorts of helpers":
            only_a_child = subprocess.Popen(["sleep", "1000"], env={}, start_new_session=True)
            spread(attempt, only_a_child.pid)
            hold(attempt)
        case "leave a helper":
            spread(attempt)
            succeed(attempt, job)
        case "go silent while scoring":
            event = {"type": "PhaseChanged", "t": 1.0, "round": job["round"], "phase": "scoring"}
            event |= {"stage": job["stage"], "attempt": job["attempt"]}
            (attempt / "events.jsonl").write_text(json.dumps(event) + "\n")
            hold(attempt)
        case "hold and ignore SIGTERM":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            hold(attempt)
    return 0


def hold(attempt: Path) -> None:
    """Stay until the test makes the file `release`."""
    (attempt / "holding").touch()
    while not (attempt / "release").exists():
        time.sleep(0.01)


def spread(attempt: Path, *more_pids: int) -> None:
    """Leave processes as launchers and engines do; their pids are written down."""
    sleeper = ["sleep", "1000"]
    own_session = subprocess.Popen(sleeper, start_new_session=True)
    no_tag = subprocess.Popen(sleeper, env={})
    orphan = subprocess.run(
        ["/bin/sh", "-c", "sleep 1000 > /dev/null & echo $!"], env={}, stdout=subprocess.PIPE
    )
    pids = [os.getpid(), own_session.pid, no_tag.pid, int(orphan.stdout), *more_pids]
    (attempt / "pids").write_text(json.dumps(pids))


def outputs(attempt: Path, stage: str) -> list[Path]:
    names = {
        "sample": ["completions.jsonl"],
        "label": ["scores.jsonl", "feedback.jsonl"],
        "train": ["checkpoint/model.safetensors", "trainer_state/state.bin"],
    }
    return [attempt / name for name in names[stage]]


def succeed(attempt: Path, job: dict[str, Any]) -> None:
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    content = struct.pack("<Q", len(header)) + header + b"\0\0\0\0"
    for path in outputs(attempt, job["stage"]):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    if job["stage"] == "train":
        (attempt / "partial_state").mkdir()
    files = [
        {
            "name": str(path.relative_to(attempt)),
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        for path in outputs(attempt, job["stage"])
    ]
    summary = SUMMARIES[job["stage"]]
    changes = attempt.parents[3] / "summaries.json"
    if changes.exists():
        key = f"{job['round']}/{job['stage']}"
        summary = summary | json.loads(changes.read_text()).get(key, {})
    manifest = {"files": files, "summary": summary, "schema_version": 1}
    (attempt / "DONE.tmp").write_text(json.dumps(manifest))
    (attempt / "DONE.tmp").rename(attempt / "DONE")


if __name__ == "__main__":
    sys.exit(main())
