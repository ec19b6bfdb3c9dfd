"""Following into a pipe: plain lines, JSON lines, and what ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from halos_backend.events import (
    MetricsLogged,
    PhaseChanged,
    Progressed,
    RunCompleted,
    RunFailed,
    StageAdopted,
    Warned,
)
from halos_backend.store.writer import EventWriter

from halos_tui.tracking.run_tail import RunTail
from tests.headless.conftest import Halos
from tests.support.command_line import SUPPORT
from tests.support.made_run import GONE, MadeRun
from tests.support.waiting import wait_for

DRIVER = SUPPORT / "drive_follow.py"
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Start a program with its output in `out` and `err`."""
    started: list[subprocess.Popen[str]] = []

    def run(*command: str, stdout: Any = None) -> subprocess.Popen[str]:
        with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out if stdout is None else stdout,
                stderr=err,
                text=True,
            )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def _eventful(run: MadeRun) -> None:
    """One round with a warning, a metric, a failed attempt and an adopted one."""
    run.start_round(1)
    attempt = run.start_stage(1, "sample")
    about: dict[str, Any] = {"round": 1, "stage": "sample", "attempt": 1}
    with EventWriter(attempt.events) as writer:
        writer.append(PhaseChanged(t=1.0, phase="generating", **about))
        writer.append(Progressed(t=1.0, done=1, total=2, unit="completions", **about))
        writer.append(Warned(t=1.0, text="a very \x1b[31mlong prompt", **about))
    run.fail_stage(1, "sample", "no GPU is left")
    run.start_stage(1, "sample", 2)
    run.say(StageAdopted(t=1.0, round=1, stage="sample", attempt=2, process=GONE))
    run.finish_stage(1, "sample", 2)
    run.start_stage(1, "label")
    reasons = {"the judge said no": 3}
    run.finish_stage(1, "label", num_unscored=3, unscored_reasons=reasons)
    attempt = run.start_stage(1, "train")
    about = {"round": 1, "stage": "train", "attempt": 1}
    with EventWriter(attempt.events) as writer:
        writer.append(MetricsLogged(t=1.0, step=1, metrics={"loss": 0.5}, **about))
    run.finish_stage(1, "train")
    run.finish_round(1, reward_mean=0.5)
    run.start_round(2)
    run.finish_round(2, untrained="no feedback is left: all are equal")
    run.complete()


def test_every_event_is_one_plain_line(halos: Halos, runs: Path) -> None:
    run = MadeRun(runs)
    _eventful(run)
    watched = halos("watch", "a-run")
    lines = watched.stdout.splitlines()
    assert all(line[2] == ":" and line[5] == ":" and line[8:10] == "  " for line in lines)
    said = [line[10:] for line in lines]
    assert said[0] == "run a-run created: 4 prompts"
    for line in (
        "round 1: 2 prompts",
        "round 1 sample: warning: a very \\x1b[31mlong prompt",
        "round 1 sample: failed: no GPU is left; it is tried again",
        "round 1 sample (attempt 2): 4 completions of 5 tokens on average, 25.0% cut off,"
        " 40 tokens/s in 1.5s",
        "round 1 label: reward 0.500, spread 0.100, 2 rows of feedback,"
        " 3 unscored (3 x the judge said no) in 1.5s",
        "round 1 train: 1 step, loss 0.693 to 0.500, KL 0.0125 in 1.5s",
        "round 1: finished, checkpoint rounds/0001/train/attempt_1/checkpoint; the policy before it"
        " had reward 0.50 ±0.10",  # no standard error is written: 0.1 / sqrt(2 prompts - 1) at most
        "round 2: finished, policy unchanged: no feedback is left: all are equal",
        "run completed: all rounds are done",
    ):
        assert line in said
    journal = run.dir.events.read_text().splitlines()
    assert len(said) == len(journal) + 1  # the warning is the stage's
    assert "\x1b" not in watched.stdout
    assert "result:" in watched.stderr


def test_json_is_the_journal_as_it_is_and_what_stages_measured(halos: Halos, runs: Path) -> None:
    run = MadeRun(runs)
    _eventful(run)
    watched = halos("watch", "a-run", "--json")
    lines = watched.stdout.splitlines()
    journal = run.dir.events.read_text().splitlines()
    kinds = [json.loads(line)["type"] for line in lines]
    of_attempts = ("Warned", "MetricsLogged")
    assert [
        line for line, kind in zip(lines, kinds, strict=True) if kind not in of_attempts
    ] == journal
    assert [kind for kind in kinds if kind in of_attempts] == ["Warned", "MetricsLogged"]
    # an attempt's events come before the event that ends it
    assert kinds.index("Warned") < kinds.index("StageFailed")
    assert kinds.index("MetricsLogged") < kinds.index("RoundFinished")


def test_a_follower_without_history_sees_only_what_comes_after(runs: Path) -> None:
    run = MadeRun(runs)
    run.start_round(1)
    attempt = run.start_stage(1, "sample")
    about: dict[str, Any] = {"round": 1, "stage": "sample", "attempt": 1}
    writer = EventWriter(attempt.events)
    writer.append(PhaseChanged(t=1.0, phase="loading", **about))
    tail = RunTail(run.dir, history=False)
    assert tail.read() == []
    assert tail.live[1, "sample"].phase == "loading"
    writer.append(PhaseChanged(t=2.0, phase="generating", **about))
    writer.close()
    run.finish_stage(1, "sample")
    assert [type(event).__name__ for event in tail.read()] == ["PhaseChanged", "StageFinished"]
    assert tail.live == {}
    assert tail.read() == []


def test_a_failed_run_says_why_and_how_to_go_on(halos: Halos, runs: Path) -> None:
    run = MadeRun(runs)
    run.start_round(1)
    run.start_stage(1, "sample")
    run.fail_stage(1, "sample", "no GPU is left")
    run.say(RunFailed(t=1.0, reason="no GPU is left"))
    watched = halos("watch", "a-run")
    assert watched.returncode == 1
    assert "run a-run failed: no GPU is left" in watched.stderr
    assert "halos-tui logs a-run sample --round 1" in watched.stderr
    assert "halos-tui resume a-run" in watched.stderr


def test_commands_name_the_runs_directory_where_it_is_not_the_default(
    halos: Halos, tmp_path: Path
) -> None:
    run = MadeRun(tmp_path / "else where")
    run.say(RunFailed(t=1.0, reason="broken"))
    watched = halos("watch", "a-run", "--runs-dir", "else where")
    assert f"halos-tui resume a-run --runs-dir '{tmp_path}/else where'" in watched.stderr


def test_a_supervisor_that_is_gone_is_reported_with_its_log(halos: Halos, runs: Path) -> None:
    run = MadeRun(runs)
    run.start_round(1)
    run.dir.supervisor_log.write_text("Killed \x1b[31mby nobody\n")
    watched = halos("watch", "a-run")
    assert watched.returncode == 6
    assert "the supervisor of a-run is gone" in watched.stderr
    assert "Killed \\x1b[31mby nobody" in watched.stderr
    assert "halos-tui resume a-run" in watched.stderr


def test_following_goes_on_while_a_resumed_run_still_says_failed(
    start: Start, runs: Path, tmp_path: Path
) -> None:
    run = MadeRun(runs)
    run.say(RunFailed(t=1.0, reason="broken"))
    run.supervised()
    process = start(str(DRIVER), str(run.dir.path))
    wait_for(lambda: "run failed" in (tmp_path / "out").read_text())
    run.say(RunCompleted(t=2.0, reason="mended"))
    run.unsupervised()
    assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_detaches_quietly(
    start: Start, runs: Path, tmp_path: Path, number: signal.Signals
) -> None:
    run = MadeRun(runs)
    run.supervised()
    process = start(str(DRIVER), str(run.dir.path))
    wait_for(lambda: "supervisor started" in (tmp_path / "out").read_text())
    process.send_signal(number)
    assert process.wait(timeout=30) == 6
    assert (tmp_path / "err").read_text() == ""
    assert not any(run.dir.path.glob("control/*"))


@pytest.mark.parametrize("flag", ["--json", ""])
def test_an_interrupt_that_nobody_can_be_asked_about_detaches(
    start: Start, runs: Path, tmp_path: Path, flag: str
) -> None:
    run = MadeRun(runs)
    run.supervised()
    process = start(str(DRIVER), str(run.dir.path), flag)
    wait_for(lambda: (tmp_path / "out").read_text() != "")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 6
    assert "detached; the run goes on: halos-tui watch a-run" in (tmp_path / "err").read_text()
    assert not any(run.dir.path.glob("control/*"))


def test_a_watcher_leaves_on_interrupt_without_a_word(
    start: Start, runs: Path, tmp_path: Path
) -> None:
    run = MadeRun(runs)
    run.supervised()
    process = start("-m", "halos_tui", "watch", "a-run")
    wait_for(lambda: (tmp_path / "out").read_text() != "")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 6
    assert (tmp_path / "err").read_text() == ""


def test_a_reader_that_goes_away_detaches_quietly(start: Start, runs: Path, tmp_path: Path) -> None:
    run = MadeRun(runs)
    run.supervised()
    read_end, write_end = os.pipe()
    process = start(str(DRIVER), str(run.dir.path), stdout=write_end)
    os.close(write_end)
    assert b"created" in os.read(read_end, 65536)
    os.close(read_end)
    run.start_round(1)
    assert process.wait(timeout=30) == 6
    assert (tmp_path / "err").read_text() == ""
