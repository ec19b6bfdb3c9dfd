"""Owns the undisturbed runs that all cases are compared with: made once, shared by all workers.

A case begins with a copy of a run directory as `halos-tui run` leaves it before it starts the
supervisor: its prompts frozen, its inputs checked, nothing run yet.

Runs of models prove that training goes on bit for bit. Runs of fakes, whose sample and train stages
are those of `fake_programs`, prove the same of supervision, and take a sixth of the time.
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

from halos_backend.client.start import (
    create_run,
    read_prepared,
    write_first_event,
    write_resolved,
)
from halos_backend.config.load import load_settings, resolve
from halos_backend.events import Stage
from halos_backend.findings import refuse_inputs
from halos_backend.store.run_dir import RunDir

from tests.support.place import LETTERS, Place, make_policy

NAME = "run"
NUM_PROMPTS = 20
PER_ROUND = 8
FAKE_PROGRAMS = Path(__file__).with_name("fake_programs")
FAKES = "fakes"
COLD = {"launch__warm_workers": False}
KINDS: dict[str, dict[str, Any]] = {
    "models": {},
    "models, cold": COLD,
    "models, overlapped": {"loop__overlap": True},
    "models, two ranks": {"launch__num_processes": 2, "loop__num_rounds": 1},
    "fakes": {},
    "fakes, cold": COLD,
    "fakes, overlapped": {"loop__overlap": True},
    "fakes, impatient": {"launch__stall_timeout_s": 2.0},
}
"""Settings in which kinds of runs differ. Workers stay between rounds, except in cold runs."""
JUDGE = """
import hashlib, time
def by_chance(prompt, completion, row):
    time.sleep(0.02)
    return int(hashlib.sha256(completion.encode()).hexdigest()[:6], 16) / 2**24
"""


@dataclass(frozen=True)
class Reference:
    """One kind of run: a directory to begin with, and how the undisturbed run went."""

    path: Path
    has_models: bool

    @property
    def environment(self) -> dict[str, str]:
        """What the processes of such a run need in their environment."""
        return {} if self.has_models else fake_stages()

    @property
    def rounds(self) -> tuple[int, ...]:
        settings = json.loads((self.fresh / "config.resolved.json").read_bytes())
        return tuple(range(1, settings["loop"]["num_rounds"] + 1))

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


def fake_stages() -> dict[str, str]:
    """The environment in which the programs of the sample and train stages are the fakes."""
    paths = [str(FAKE_PROGRAMS), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}


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
    """Return the reference of that kind; the first worker that asks for it makes it."""
    reference = Reference(shared / kind.replace(", ", "_").replace(" ", "_"), FAKES not in kind)
    with one_at_a_time(shared):
        if not (shared / "made").exists():
            _make_inputs(shared)
            (shared / "made").touch()
        if not (reference.path / "made").exists():
            shutil.rmtree(reference.path, ignore_errors=True)
            _make(reference, shared, KINDS[kind])
            (reference.path / "made").touch()
    return reference


def _make_inputs(shared: Path) -> None:
    """What all kinds have in common, and a run whose inputs are checked."""
    shutil.rmtree(shared / "policy", ignore_errors=True)
    shutil.rmtree(shared / "checked", ignore_errors=True)
    make_policy(shared / "policy")
    (shared / "judge.py").write_text(JUDGE)
    rows = [{"prompt": f"say {LETTERS[i]}{'x' * (i % 5)}", "answer": i} for i in range(NUM_PROMPTS)]
    (shared / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = _config(shared, {})
    create_run(shared / "checked", NAME, config_text=config.read_text(), settings=_settings(config))


def _config(shared: Path, changes: dict[str, Any]) -> Path:
    return Place(shared).config(
        label__judge__function=f"{shared}/judge.py:by_chance",
        loop__prompts_per_round=PER_ROUND,
        loop__max_attempts=50,
        **{"launch__warm_workers": True, **changes},
    )


def _settings(config: Path) -> dict[str, Any]:
    return resolve(load_settings(config, ())).model_dump(mode="json")


def _make(reference: Reference, shared: Path, changes: dict[str, Any]) -> None:
    """Give a copy of the checked run the settings of this kind, and run a copy of that."""
    reference.path.mkdir()
    config = _config(shared, changes).rename(reference.path / "run.toml")
    settings = _settings(config)
    run = RunDir(copy_run(shared / "checked" / NAME, reference.fresh.parent))
    shutil.copyfile(config, run.config)
    write_resolved(run, settings)
    run.events.unlink()
    write_first_event(run, NAME, settings, refuse_inputs(read_prepared(run)))
    runs = copy_run(run.path, reference.finished.parent).parent
    done = subprocess.run(
        [sys.executable, "-m", "halos_tui", "resume", NAME, "--no-ui", "--runs-dir", runs],
        env={**os.environ, "OMP_NUM_THREADS": "1", **reference.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")


def _place(event: dict[str, Any]) -> tuple[int, str]:
    return event["round"], event["stage"]
