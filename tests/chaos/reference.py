"""Owns the undisturbed runs that all cases are compared with: made once, shared by all workers.

A case begins with a copy of a run directory as `halos-tui run` leaves it before it starts the
supervisor: its prompts frozen, its inputs checked, nothing run yet.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halos_backend.client.start import create_run
from halos_backend.config.load import load_settings, resolve
from halos_backend.events import Stage
from place import JUDGE, LETTERS, Place, make_policy

NAME = "run"
NUM_PROMPTS = 20
PER_ROUND = 8
COLD = {"launch__warm_workers": False}
KINDS: dict[str, dict[str, Any]] = {
    "plain": COLD,
    "two ranks": {"launch__num_processes": 2, **COLD},
    "warm": {"launch__warm_workers": True},
    "overlapped": {"loop__overlap": True, **COLD},
    "impatient": {"launch__stall_timeout_s": 4.0, **COLD},
}


@dataclass(frozen=True)
class Reference:
    """One kind of run: a directory to begin with, and how the undisturbed run went."""

    path: Path

    @property
    def fresh(self) -> Path:
        return self.path / "fresh" / NAME

    @property
    def finished(self) -> Path:
        return self.path / "runs" / NAME

    @property
    def weights(self) -> bytes:
        return (self.finished / "final" / "model.safetensors").read_bytes()

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = (self.finished / "events.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def elapsed_s(self, round: int, stage: Stage) -> float:
        """How long a stage took undisturbed."""
        for event in self.events:
            if event["type"] == "StageFinished" and _place(event) == (round, stage):
                return float(event["elapsed_s"])
        raise LookupError(f"round {round} has no {stage}")

    def num_attempt_events(self, round: int, stage: Stage) -> int:
        path = self.finished / "rounds" / f"{round:04d}" / stage / "attempt_1" / "events.jsonl"
        return path.read_bytes().count(b"\n")

    def prompt_ids(self, round: int) -> list[str]:
        """In the order in which they were sampled."""
        path = self.finished / "rounds" / f"{round:04d}/sample/attempt_1/completions.jsonl"
        return [json.loads(line)["prompt_id"] for line in path.read_text().splitlines()]


def copy_run(run: Path, root: Path) -> Path:
    """A copy of a run directory under `root`."""
    root.mkdir(mode=0o700, exist_ok=True, parents=True)
    shutil.copytree(run, root / NAME, symlinks=True)
    return root / NAME


@contextmanager
def one_at_a_time(shared: Path) -> Iterator[None]:
    """Keeps the workers of a session from making the same thing twice."""
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def get_reference(shared: Path, kind: str) -> Reference:
    """The reference of that kind, made by the first worker that asks for it."""
    path = shared / kind.replace(" ", "_")
    with one_at_a_time(shared):
        if not (shared / "policy").exists():
            make_policy(shared / "policy.making")
            (shared / "policy.making").rename(shared / "policy")
        if not (path / "made").exists():
            shutil.rmtree(path, ignore_errors=True)
            _make(path, shared / "policy", kind)
            (path / "made").touch()
    return Reference(path)


def _make(path: Path, policy: Path, kind: str) -> None:
    path.mkdir()
    (path / "policy").symlink_to(policy)
    (path / "judge.py").write_text(JUDGE)
    rows = [{"prompt": f"say {LETTERS[i]}{'x' * (i % 5)}", "answer": i} for i in range(NUM_PROMPTS)]
    (path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = Place(path).config(
        label__judge__function=f"{path}/judge.py:vowels_slowly",
        loop__prompts_per_round=PER_ROUND,
        loop__max_attempts=50,
        **KINDS[kind],
    )
    create_run(
        path / "fresh",
        NAME,
        config_text=config.read_text(),
        settings=resolve(load_settings(config, ())).model_dump(mode="json"),
    )
    shutil.copytree(path / "fresh", path / "runs")
    done = subprocess.run(
        [sys.executable, "-m", "halos_tui", "resume", NAME, "--no-ui", "--runs-dir", path / "runs"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")


def _place(event: dict[str, Any]) -> tuple[int, str]:
    return event["round"], event["stage"]
