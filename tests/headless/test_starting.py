"""`run`, `--dry-run`, `--detach`, `abort` with a tiny policy and real stages."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from halos_backend.store.identity import lock_holder
from halos_backend.store.run_dir import RunDir

from tests.headless.conftest import Halos
from tests.support.fake_run import FakeRun
from tests.support.place import Place
from tests.support.waiting import wait_for


def _plan(place: Place, **changes: Any) -> dict[str, Any]:
    shown = place.halos("run", str(place.config(**changes)), "--dry-run", "--json")
    assert shown.code == 0, shown.stderr
    (line,) = shown.stdout.splitlines()
    plan: dict[str, Any] = json.loads(line)
    return plan


def test_a_dry_run_prints_the_rounds_and_leaves_nothing(place: Place) -> None:
    plan = _plan(place, loop__num_rounds=None)
    assert plan["num_rounds"] == 4
    assert plan["rounds"] == [
        {
            "first_round": 1,
            "num_rounds": 3,
            "num_prompts": 6,
            "num_completions": 24,
            "max_examples": 6,
            "max_steps": 3,
        },
        {
            "first_round": 4,
            "num_rounds": 1,
            "num_prompts": 2,
            "num_completions": 8,
            "max_examples": 2,
            "max_steps": 1,
        },
    ]
    assert plan["max_steps"] == 10
    assert (plan["num_prompts"], plan["num_too_long"]) == (20, 0)
    assert (plan["effective_batch_size"], plan["example"]) == (2, "pairs")
    assert 0 < plan["disk_needed_bytes"] < plan["disk_free_bytes"]
    command = plan["commands"]["train"]
    assert command[1:4] == ["-m", "halos_backend.stages.train", "--attempt-dir"]
    assert command[4] == str(place.runs / plan["run"] / "rounds/0001/train/attempt_1")
    assert not place.runs.exists()


def test_a_dry_run_as_text_names_rounds_disk_and_commands(place: Place) -> None:
    config = str(place.config(loop__num_rounds=None, launch__num_processes=2))
    shown = place.halos("run", config, "--dry-run", "--name", "dry")
    assert shown.code == 0, shown.stderr
    for text in (
        "dry: 4 rounds of dpo, 20 prompts",
        "rounds 1 to 3, each: 6 prompts, 24 completions, at most 6 pairs, 3 steps",
        "round 4: 2 prompts, 8 completions, at most 2 pairs, 1 step",
        "one step sees 2 pairs on 2 processes; at most 10 steps in all",
        "guard non_finite_loss: loss_last not finite: pause",
        "guard disk: disk_free_rounds below 1: pause",
        "-m torch.distributed.run --standalone --nproc_per_node 2 -m halos_backend.stages.train",
    ):
        assert text in shown.stdout
    assert not place.runs.exists()


def test_a_dry_run_checks_the_inputs(place: Place) -> None:
    refused = place.halos("run", str(place.config(prompts__prompt="question")), "--dry-run")
    assert (refused.code, refused.stdout) == (2, "")
    assert "question" in refused.stderr


def test_a_run_that_the_disk_cannot_hold_is_refused_and_leaves_nothing(place: Place) -> None:
    refused = place.halos("run", str(place.config(sample__group_size=10**13)), "--no-ui")
    assert (refused.code, refused.stdout) == (2, "")
    assert "halos-tui: disk: needs up to" in refused.stderr
    assert "batch" not in refused.stderr
    assert list(place.runs.iterdir()) == []


def test_warnings_come_before_the_start_on_stderr(place: Place) -> None:
    config = place.config(loop__num_rounds=1, train__batch_size=64)
    done = place.halos("run", str(config), "--no-ui")
    assert done.code == 0, done.stderr
    assert done.stderr.count("warning: batch: one step sees 64 pairs") == 1
    (run,) = place.runs.iterdir()
    assert re.fullmatch(r"dpo-\d{4}-\d{6}", run.name)
    assert (run / "config.toml").read_text() == config.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_cut_off_before_it_exists_leaves_nothing(
    plain_place: Place, number: signal.Signals
) -> None:
    process = plain_place.start("run", str(plain_place.config()), "--no-ui", "--name", "never")
    wait_for(
        lambda: (
            plain_place.runs.is_dir()
            and any(plain_place.runs.glob(".never.creating-*/prepare.log"))
        )
    )
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, "")
    assert "Traceback" not in stderr
    assert list(plain_place.runs.iterdir()) == []


def test_a_name_that_is_taken_is_refused(place: Place) -> None:
    (place.runs / "mine").mkdir(parents=True)
    refused = place.halos("run", str(place.config()), "--name", "mine")
    assert refused.code == 2
    assert "take another name: --name mine-2;" in refused.stderr
    for verb in ("attach", "rm"):
        assert f"halos-tui {verb} mine --runs-dir {place.runs}" in refused.stderr


def test_a_detached_run_goes_on_and_can_be_aborted(place: Place) -> None:
    config = place.config(loop__num_rounds=None, loop__num_epochs=50)
    started = place.halos("run", str(config), "--name", "long", "--detach")
    assert (started.code, started.stdout) == (0, "")
    assert "halos-tui watch long" in started.stderr
    wait_for(lambda: any(event["type"] == "StageStarted" for event in place.events("long")))
    aborted = place.halos("abort", "long", "--yes")
    assert aborted.code == 3, aborted.stderr
    assert place.events("long")[-1]["type"] == "RunAborted"
    assert place.halos("watch", "long").code == 3


def test_a_paused_run_can_be_aborted_without_starting_a_stage(halos: Halos, runs: Path) -> None:
    run = FakeRun(runs / "paused")
    run.behave(r1_sample_1="hold")
    supervisor = run.start()
    run.hold(1, "sample")
    supervisor.terminate()
    supervisor.wait(timeout=30)
    assert run.state.status == "paused"
    before = run.attempts
    aborted = halos("abort", "paused", "--yes")
    assert aborted.returncode == 3, aborted.stderr
    assert run.state.status == "aborted"
    assert run.attempts == before
    wait_for(lambda: lock_holder(RunDir(runs / "paused")) is None)
    run.check()


def test_the_demo_refuses_a_loss_it_does_not_have(halos: Halos) -> None:
    refused = halos("demo", "--loss", "ppo")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "ppo" in refused.stderr
    assert "Traceback" not in refused.stderr
