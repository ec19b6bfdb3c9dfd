"""`list`, `status`, `logs`: one look at runs, from their files alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from halos_backend.events import (
    AbortRequested,
    PhaseChanged,
    Progressed,
    RunAborted,
    RunFailed,
    RunPaused,
    StageFailed,
    Warned,
)
from halos_backend.store.writer import EventWriter

from tests.headless.conftest import Halos
from tests.support.made_run import STARTED_T, MadeRun
from tests.support.pty_output import Terminal


def test_list_shows_every_run_and_a_broken_one_breaks_no_other(halos: Halos, runs: Path) -> None:
    MadeRun(runs, "done").whole_round(1, reward_mean=0.625)
    broken = MadeRun(runs, "broken")
    with broken.dir.events.open("ab") as file:
        file.write(b"rubbish\n")
    shown = halos("list")
    assert shown.returncode == 0
    assert shown.stderr == ""
    lines = {line.split()[0]: line for line in shown.stdout.splitlines()}
    assert set(lines) == {"name", "done", "broken"}
    assert "unreadable" in lines["broken"]
    assert "line 3" in lines["broken"]
    assert " 0.62 " in lines["done"], "as exact as its error, 0.1"
    assert "1/2" in lines["done"]


def test_list_json_is_one_object_a_run_newest_first(halos: Halos, runs: Path) -> None:
    for age, name in enumerate(("new", "old")):
        run = MadeRun(runs, name)
        os.utime(run.dir.events, (1e9 - age, 1e9 - age))
    rows = [json.loads(line) for line in halos("list", "--json").stdout.splitlines()]
    assert [row["name"] for row in rows] == ["new", "old"]
    assert rows[0]["path"] == str(runs / "new")
    assert rows[0]["status"] == "lost"


def test_list_of_nothing_says_so_on_stderr_and_makes_nothing(halos: Halos, tmp_path: Path) -> None:
    shown = halos("list", "--runs-dir", str(tmp_path / "nowhere"))
    assert (shown.returncode, shown.stdout) == (0, "")
    assert "nowhere" in shown.stderr
    assert not (tmp_path / "nowhere").exists()


def test_a_running_journal_without_a_supervisor_is_lost(halos: Halos, runs: Path) -> None:
    run = MadeRun(runs)
    run.start_round(1)
    assert json.loads(halos("status", "a-run", "--json").stdout)["status"] == "lost"
    run.supervised()
    assert json.loads(halos("status", "a-run", "--json").stdout)["status"] == "running"


def test_status_json_has_the_state_and_what_runs_now(halos: Halos, runs: Path) -> None:
    run = MadeRun(runs)
    run.supervised()
    run.start_round(1)
    attempt = run.start_stage(1, "sample")
    about = {"round": 1, "stage": "sample", "attempt": 1}
    with EventWriter(attempt.events) as writer:
        writer.append(PhaseChanged(t=1.0, phase="generating", **about))
        writer.append(Progressed(t=10.0, done=10, total=40, unit="completions", **about))
        writer.append(Progressed(t=15.0, done=20, total=40, unit="completions", **about))
    status = json.loads(halos("status", "a-run", "--json").stdout)
    assert status["run"] == "a-run"
    assert status["path"] == str(runs / "a-run")
    assert status["rounds"][0]["stages"]["sample"]["status"] == "running"
    assert status["supervisor"]["pid"] > 0
    (live,) = status["live"]
    assert (live["round"], live["stage"], live["attempt"]) == (1, "sample", 1)
    assert (live["phase"], live["done"], live["total"]) == ("generating", 20, 40)
    assert live["rate"] == 2.0
    assert live["eta_s"] == 10.0
    # 20 more at 2 a second; 1.2816 standard deviations of a quarter hold four cases of five
    assert live["eta"] == {"likely_s": 10.0, "low_s": 6.796, "high_s": 13.204, "is_open": False}
    assert status["round_eta"] == {**live["eta"], "is_open": True}, "nobody knows of label, train"
    text = halos("status", "a-run").stdout.splitlines()
    assert text[2] == "ETA round at least 10s, run at least 10s"
    assert "20/40 completions, 2 completions/s, ETA about 10s (7s-15s)" in text[-1]


def test_status_text_shows_rounds_with_the_change_of_the_reward(halos: Halos, runs: Path) -> None:
    run = MadeRun(runs)
    run.whole_round(1, reward_mean=0.5)
    run.whole_round(2, reward_mean=0.625)
    run.complete()
    lines = halos("status", "a-run").stdout.splitlines()
    assert lines[0] == "a-run  completed: all rounds are done"
    first, second = (line.split() for line in lines[-2:])
    assert first[:7] == ["1", "2", "0.50", "-", "2", "0.500", "0.013"]
    assert second[:5] == ["2", "2", "0.62", "+0.12", "±0.14"]


def test_status_counts_the_prompts_of_an_epoch(halos: Halos, runs: Path) -> None:
    run = MadeRun(runs)  # of 4 prompts, 2 a round
    for round in (1, 2):
        run.whole_round(round)
    assert " 4 of 4 prompts\n" in halos("status", "a-run").stdout
    run.start_round(3)
    assert " 2 of 4 prompts, epoch 2\n" in halos("status", "a-run").stdout


def test_status_says_that_a_stage_was_aborted(halos: Halos, runs: Path) -> None:
    run = MadeRun(runs)
    run.start_round(1)
    run.start_stage(1, "sample")
    about: dict[str, Any] = {"round": 1, "stage": "sample", "attempt": 1}
    run.say(
        AbortRequested(t=STARTED_T, request_id="r"),
        StageFailed(
            t=STARTED_T, reason="aborted", exit_code=-15, last_lines=[], cause="stopped", **about
        ),
        RunAborted(t=STARTED_T, request_id="r"),
    )
    table = halos("status", "a-run").stdout.splitlines()[-1].split()
    assert "aborted" in table
    assert "failed" not in table


def test_status_takes_the_directory_of_a_run_too(halos: Halos, runs: Path) -> None:
    MadeRun(runs)
    assert halos("status", str(runs / "a-run"), "--runs-dir", "/nowhere").returncode == 0


def test_status_shows_names_and_warnings_without_escape_sequences(halos: Halos, runs: Path) -> None:
    run = MadeRun(runs)
    run.start_round(1)
    attempt = run.start_stage(1, "sample")
    about = {"round": 1, "stage": "sample", "attempt": 1}
    with EventWriter(attempt.events) as writer:
        writer.append(Warned(t=1.0, text="\x1b]0;owned\x07", **about))
    shown = halos("status", "a-run").stdout
    assert "\\x1b]0;owned\\x07" in shown
    assert "\x1b" not in shown


def test_an_unknown_run_is_exit_code_4(halos: Halos) -> None:
    for verb in ("status", "watch", "abort", "resume", "logs", "completions"):
        refused = halos(verb, "nobody")
        assert refused.returncode == 4, verb
        assert refused.stdout == ""
        assert "halos-tui: no run 'nobody'" in refused.stderr


def test_a_corrupt_journal_is_named_by_line_without_a_traceback(halos: Halos, runs: Path) -> None:
    run = MadeRun(runs)
    with run.dir.events.open("ab") as file:
        file.write(b'{"type":"NoSuchEvent"}\n')
    refused = halos("status", "a-run")
    assert refused.returncode == 1
    assert "line 3" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_resume_of_what_has_ended_or_runs_is_refused(halos: Halos, runs: Path) -> None:
    MadeRun(runs, "done").complete()
    stopped = MadeRun(runs, "stopped")
    stopped.say(RunAborted(t=1.0, request_id="x"))
    running = MadeRun(runs, "running")
    running.supervised()
    for name, code, word in (("done", 2, "completed"), ("stopped", 2, "aborted")):
        refused = halos("resume", name)
        assert (refused.returncode, refused.stdout) == (code, "")
        assert word in refused.stderr
    refused = halos("resume", "running")
    assert refused.returncode == 5
    assert "halos-tui watch running" in refused.stderr


def test_abort_of_what_has_ended_is_refused(halos: Halos, runs: Path) -> None:
    MadeRun(runs, "done").complete()
    refused = halos("abort", "done")
    assert refused.returncode == 2
    assert "completed already" in refused.stderr


def test_watch_of_a_stopped_run_exits_by_its_status(halos: Halos, runs: Path) -> None:
    MadeRun(runs, "completed").complete()
    MadeRun(runs, "failed").say(RunFailed(t=1.0, reason="broken"))
    MadeRun(runs, "aborted").say(RunAborted(t=1.0, request_id="x"))
    MadeRun(runs, "paused").say(RunPaused(t=1.0, reason="interrupted"))
    for name, code in (("completed", 0), ("failed", 1), ("aborted", 3), ("paused", 6)):
        assert halos("watch", name).returncode == code, name


def test_logs_into_a_pipe_are_the_raw_bytes(halos: Halos, runs: Path) -> None:
    run = MadeRun(runs)
    run.start_round(1)
    run.start_stage(1, "sample").log.write_bytes(b"first\n")
    run.fail_stage(1, "sample", "broken")
    run.start_stage(1, "sample", 2).log.write_bytes(b"\x1b[31mraw\x1b[0m\n")
    assert halos("logs", "a-run").stdout == "\x1b[31mraw\x1b[0m\n"
    assert halos("logs", "a-run", "sample", "--attempt", "1").stdout == "first\n"
    assert halos("logs", "a-run", "sample", "--round", "1", "-f").stdout.startswith("\x1b[31m")


def test_logs_of_what_is_not_there_say_what_is(halos: Halos, runs: Path) -> None:
    run = MadeRun(runs)
    run.start_round(1)
    run.start_stage(1, "sample")
    for arguments, word in (
        (("tran",), "label"),
        (("train",), "not started"),
        (("--round", "9"), "round 9"),
        (("--attempt", "7"), "attempts 1 to 1"),
    ):
        refused = halos("logs", "a-run", *arguments)
        assert refused.returncode == 2, arguments
        assert word in refused.stderr


@pytest.mark.parametrize(
    ("is_running", "said"), [(True, "has written nothing yet"), (False, "wrote nothing")]
)
def test_logs_of_a_stage_without_output_say_so(
    halos: Halos, runs: Path, is_running: bool, said: str
) -> None:
    run = MadeRun(runs)
    run.start_round(1)
    run.start_stage(1, "sample").log.write_bytes(b"")
    if is_running:
        run.supervised()
    shown = halos("logs", "a-run")
    assert (shown.returncode, shown.stdout) == (0, "")
    assert shown.stderr == f"sample of round 1, attempt 1, {said}\n"


def test_logs_on_a_terminal_show_escape_sequences_as_text(
    environment: dict[str, str], runs: Path
) -> None:
    run = MadeRun(runs)
    run.start_round(1)
    run.start_stage(1, "sample").log.write_bytes("\x1b]0;owned\x07 é\n".encode() * 3000)
    command = [sys.executable, "-m", "halos_tui", "logs", "a-run"]
    with Terminal(command, env=environment) as terminal:
        assert terminal.exit_code() == 0
    assert b"\x1b" not in terminal.output
    assert terminal.text.count("\\x1b]0;owned\\x07 é\r\n") == 3000


def test_followed_logs_end_with_the_attempt(environment: dict[str, str], runs: Path) -> None:
    run = MadeRun(runs)
    run.supervised()
    run.start_round(1)
    log = run.start_stage(1, "sample").log
    log.write_text("first\n")
    command = [sys.executable, "-m", "halos_tui", "logs", "a-run", "-f"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
        with log.open("a") as file:
            file.write("second\n")
        assert process.stdout.readline() == b"second\n"
        with log.open("a") as file:
            file.write("last\n")
        run.finish_stage(1, "sample")
        assert process.stdout.read() == b"last\n"
        assert process.wait(timeout=30) == 0


def test_a_relative_runs_directory_is_one_of_the_working_directory(
    halos: Halos, environment: dict[str, str], runs: Path
) -> None:
    MadeRun(runs)
    environment["HALOS_RUNS_DIR"] = "runs"  # commands run in its parent
    status = json.loads(halos("status", "a-run", "--json").stdout)
    assert status["path"] == str(runs / "a-run")
    assert halos("status", "a-run").stdout.endswith("halos-tui resume a-run\n")
