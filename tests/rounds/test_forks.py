"""`fork`, with a tiny policy and real stages."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from halos_backend.store.own_words import toggle_marks
from halos_backend.store.registry import load_state
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState

from tests.support.place import Place


def state_of(place: Place, run: str) -> RunState:
    return load_state(RunDir(place.runs / run))


def weights(path: Path) -> bytes:
    return (path / "model.safetensors").read_bytes()


def job(place: Place, run: str, round: int, stage: str) -> dict[str, Any]:
    path = RunDir(place.runs / run).attempt(round, stage, 1).job  # type: ignore[arg-type]
    made: dict[str, Any] = json.loads(path.read_text())
    return made


def prompt_ids(place: Place, run: str, round: int) -> set[str]:
    path = RunDir(place.runs / run).attempt(round, "sample", 1).completions
    return {json.loads(line)["prompt_id"] for line in path.read_text().splitlines()}


def test_a_fork_shares_nothing_with_the_run_it_comes_from(place: Place, whole: Place) -> None:
    """Round 1 of the fork takes the prompts that round 2 of the old run took, from its policy."""
    place.take("whole", of=whole)
    old = RunDir(place.runs / "whole")
    before = weights(old.attempt(1, "train", 1).checkpoint)
    taken = prompt_ids(place, "whole", 2)
    toggle_marks(old, [(1, "a", "a.0")])
    inodes = {path.stat().st_ino for path in old.path.rglob("*") if path.is_file()}

    forked = place.halos(
        "fork", "whole", "--round", "1", "--set", "train.lr=1e-4", "--set", "loop.num_rounds=1"
    )

    assert forked.code == 0, forked.stderr
    assert "whole-r1 begins after round 1 of whole, behind 6 of 20 prompts" in forked.stderr
    new = RunDir(place.runs / "whole-r1")
    assert not inodes & {path.stat().st_ino for path in new.path.rglob("*") if path.is_file()}
    assert not new.own_marks.exists()
    shutil.rmtree(old.path)
    state = state_of(place, "whole-r1")
    assert state.status == "completed"
    assert (state.rounds[0].cursor, state.rounds[0].num_prompts) == (6, 6)
    assert prompt_ids(place, "whole-r1", 1) == taken
    assert weights(new.initial.checkpoint) == before
    assert state.rounds[0].settings["train"]["lr"] == 1e-4
    assert state.settings["policy"]["path"] == str(new.initial.checkpoint)
    assert job(place, "whole-r1", 1, "sample")["inputs"]["policy"] == str(new.initial.checkpoint)
    # round 1 was not the last, so its trainer state had been pruned
    assert job(place, "whole-r1", 1, "train")["inputs"]["trainer_state"] is None
    assert weights(new.final) != before
    assert place.halos("status", "whole-r1").code == 0


def test_a_fork_of_the_last_round_takes_prompts_and_moments_as_the_next_round_would(
    place: Place, whole: Place, one: Place
) -> None:
    """Of the same prompts and with AdamW's moments; its draws are its own, being of a round 1."""
    place.take("one", of=one)
    forked = place.halos("fork", "one", "--round", "1", "--name", "rest")
    assert forked.code == 0, forked.stderr
    assert "with its trainer state" in forked.stderr
    rest = RunDir(place.runs / "rest")
    inputs = job(place, "rest", 1, "train")["inputs"]
    assert inputs["trainer_state"] == str(rest.initial.trainer_state)
    assert inputs["reset_optimizer"] is None
    assert prompt_ids(place, "rest", 1) == prompt_ids(whole, "whole", 2)
    assert state_of(place, "rest").rounds[0].stages["train"].summary.optimizer == "kept"
    assert not rest.initial.trainer_state.exists(), "it goes once a round is trained"


def test_a_refused_fork_leaves_nothing(place: Place, one: Place) -> None:
    place.take("one", of=one)
    cases = {
        ("--round", "7"): "has no round 7; can be forked: 1",
        ("--round", "1", "--set", "train.lrr=1"): "train.lrr",
        ("--round", "1", "--set", "policy.path=x"): "policy.path",
        ("--round", "1", "--set", "loop.num_prompts=6"): "raise loop.num_prompts = 6",
        ("--round", "1", "--set", "sample.max_new_tokens=60"): "20 of 20 prompts have more",
        ("--round", "1", "--set", "label.judge.function=nowhere.py:f"): "nowhere.py",
        ("--round", "1", "--name", "one"): "a run named 'one' exists",
    }
    for arguments, said in cases.items():
        refused = place.halos("fork", "one", *arguments)
        assert (refused.code, refused.stdout) == (2, ""), refused.stderr
        assert said in refused.stderr
        assert [path.name for path in place.runs.iterdir()] == ["one"]

    old = RunDir(place.runs / "one")
    copied = old.attempt(1, "train", 1).checkpoint / "model.safetensors"
    content = bytearray(copied.read_bytes())
    content[-1] ^= 1
    copied.write_bytes(content)
    refused = place.halos("fork", "one", "--round", "1")
    assert refused.code == 1
    assert "its bytes are not those that were written" in refused.stderr
    assert [path.name for path in place.runs.iterdir()] == ["one"]


def test_a_disk_that_fills_while_copying_leaves_nothing(place: Place, one: Place) -> None:
    """A limit on the size of a file stands for the disk: the weights have more."""
    place.take("one", of=one)
    arguments = ["fork", "one", "--round", "1", "--runs-dir", str(place.runs)]
    done = subprocess.run(
        [sys.executable, "-m", "halos_tui", *arguments],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)),
    )
    assert done.returncode == 1
    assert "copying" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in place.runs.iterdir()] == ["one"]


def test_a_fork_with_other_prompts_begins_with_the_first_of_them(place: Place, one: Place) -> None:
    place.take("one", of=one)
    rows = [{"prompt": f"tell {number}"} for number in "abcdefgh"]
    other = place.path / "other.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    forked = place.halos("fork", "one", "--round", "1", "--set", f"prompts.path={other}")
    assert forked.code == 0, forked.stderr
    state = state_of(place, "one-r1")
    assert (state.num_prompts, state.rounds[0].cursor) == (8, 0)
