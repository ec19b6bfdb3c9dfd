"""`rm`, `du`, `resume --all`, and GPUs that another run holds."""

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
from halos_backend.client import remove
from halos_backend.config.schema import LaunchSettings
from halos_backend.interpreters.programs import ATTEMPT_TAG
from halos_backend.store.disk_use import DiskMeter, DiskUse
from halos_backend.store.identity import lock_holder
from halos_backend.store.own_words import toggle_marks
from halos_backend.store.run_dir import RunDir
from halos_backend.supervisor.gpus.locks import RUNTIME_DIR
from halos_backend.supervisor.gpus.reservation import Reservation

from tests.headless.conftest import Halos
from tests.support.command_line import run_halos
from tests.support.fake_run import MARK, FakeRun
from tests.support.forks import forking
from tests.support.made_run import MadeRun
from tests.support.pty_output import Terminal
from tests.support.waiting import wait_for

MakeRun = Callable[..., FakeRun]


@pytest.fixture
def make_run(runs: Path) -> Iterator[MakeRun]:
    """Runs with fake stages, each under a name; afterwards nothing of them may be running."""
    made: list[FakeRun] = []

    def make(name: str = "a-run", **loop: Any) -> FakeRun:
        made.append(FakeRun(runs / name, **loop))
        return made[-1]

    yield make
    for run in made:
        wait_for(lambda run=run: lock_holder(run.dir) is None)
        wait_for(lambda run=run: run.processes() == [])
        if run.dir.path.exists():
            run.check()


@pytest.fixture
def fake_halos(environment: dict[str, str], runs: Path, tmp_path: Path) -> Halos:
    """Verbs whose supervisors have fake stages."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = run_halos(
            *arguments,
            program=forking("tests.support.drive_halos"),
            environment={**environment, MARK: str(runs / "a-run")},
            cwd=tmp_path,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


def lose(run: FakeRun) -> None:
    """Kill the supervisor while its first stage holds, then let that stage end."""
    run.behave(r1_sample_1="hold and fail")
    supervisor = run.start()
    attempt = run.hold(1, "sample")
    run.kill(supervisor)
    run.release(attempt)
    wait_for(lambda: run.processes() == [])


def test_rm_deletes_a_run_and_says_what_that_frees(halos: Halos, runs: Path) -> None:
    MadeRun(runs, "gone").complete()
    MadeRun(runs, "kept").complete()
    (runs / "gone" / "big").write_bytes(b"x" * 3_000_000)
    done = halos("rm", "gone", "--yes")
    assert (done.returncode, done.stdout) == (0, "")
    assert "gone is deleted; 2.87 MiB are free again" in done.stderr
    assert [path.name for path in runs.iterdir()] == ["kept"]


def test_rm_without_a_terminal_needs_yes(halos: Halos, runs: Path) -> None:
    MadeRun(runs, "mine")
    refused = halos("rm", "mine")
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert (runs / "mine").is_dir()


@pytest.mark.parametrize(("answer", "is_left"), [("y\n", False), ("\n", True), ("n\n", True)])
def test_rm_asks_on_a_terminal(
    environment: dict[str, str], runs: Path, answer: str, is_left: bool
) -> None:
    run = MadeRun(runs, "mine")
    run.whole_round(1)
    toggle_marks(run.dir, [(1, "p", "p.0"), (1, "p", "p.1")])
    command = [sys.executable, "-m", "halos_tui", "rm", "mine"]
    with Terminal(command, env=environment) as terminal:
        terminal.wait_for("delete 1 run for good? [y/N]")
        assert "mine: running, 1 round" in terminal.text
        assert "2 completions that you marked or noted" in " ".join(terminal.text.split())
        terminal.press(answer)
        assert terminal.exit_code() == 0
    assert (runs / "mine").is_dir() == is_left


def test_abort_asks_on_a_terminal_and_without_one_needs_yes(
    environment: dict[str, str], halos: Halos, runs: Path
) -> None:
    run = MadeRun(runs, "mine")
    run.whole_round(1)
    refused = halos("abort", "mine")
    assert refused.returncode == 2
    assert "needs --yes; to go on later instead: halos-tui pause mine" in refused.stderr
    command = [sys.executable, "-m", "halos_tui", "abort", "mine"]
    with Terminal(command, env=environment) as terminal:
        terminal.wait_for("abort mine for good? [y/N]")
        assert "Stays: the checkpoint of round 1" in terminal.text
        terminal.press("\r")
        assert terminal.exit_code() == 0
        assert "mine was left as it is" in terminal.text
    assert list(run.dir.path.glob("control/*.json")) == []


def test_rm_refuses_a_supervised_run_and_then_deletes_none(
    make_run: MakeRun, halos: Halos, runs: Path
) -> None:
    MadeRun(runs, "idle").complete()
    run = make_run("busy")
    run.behave(r1_sample_1="hold and fail")
    supervisor = run.start()
    attempt = run.hold(1, "sample")
    refused = halos("rm", "idle", "busy", "--yes")
    assert refused.returncode == 5
    assert f"supervised by process {supervisor.pid}" in refused.stderr
    run.kill(supervisor)
    refused = halos("rm", "busy", "--yes")
    assert refused.returncode == 5
    assert "a stage of the run busy still runs" in refused.stderr
    assert sorted(path.name for path in runs.iterdir() if path.is_dir()) == ["busy", "idle"]
    run.release(attempt)
    wait_for(lambda: run.processes() == [])
    assert halos("rm", "idle", "busy", "--yes").returncode == 0


def test_rm_of_no_run_deletes_none(halos: Halos, runs: Path) -> None:
    MadeRun(runs, "mine")
    assert halos("rm", "mine", "nowhere", "--yes").returncode == 4
    assert (runs / "mine").is_dir()


def test_a_run_that_is_deleted_by_half_is_no_run(
    runs: Path, halos: Halos, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is killed after the run lost its name; the next `rm` takes the remains along."""
    MadeRun(runs, "first")
    MadeRun(runs, "second")

    def die(_path: Path) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(remove, "_delete", die)
    with pytest.raises(KeyboardInterrupt):
        remove.remove_run(RunDir(runs / "first"))
    assert len(list(runs.iterdir())) == 2
    listed = halos("list", "--json").stdout.splitlines()
    assert [json.loads(line)["name"] for line in listed] == ["second"]
    assert halos("rm", "second", "--yes").returncode == 0
    assert list(runs.iterdir()) == []


def test_what_a_run_has_on_disk_is_counted_by_kind_and_once(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    train, sample = run.attempt(1, "train", 1), run.attempt(1, "sample", 1)
    kinds = {
        "checkpoints": (
            train.checkpoint / "model.safetensors",
            run.initial.checkpoint / "model.safetensors",
        ),
        "trainer_states": (
            train.trainer_state / "optimizer.safetensors",
            train.partial_state / "1" / "optimizer.safetensors",
        ),
        "rows": (sample.completions, run.prompts),
        "logs": (sample.log, run.events),
        "other": (run.config,),
    }
    for number, path in enumerate((path for paths in kinds.values() for path in paths), start=1):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 8192 * number)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    expected = {kind: sum(on_disk(path) for path in paths) for kind, paths in kinds.items()}
    os.link(sample.completions, sample.scores)
    run.final.symlink_to("rounds")
    with (run.path / "sparse").open("wb") as file:
        file.truncate(1 << 30)

    meter = DiskMeter()
    found = meter.measure(run.path)

    assert found == DiskUse(**expected)
    assert found.total == sum(expected.values()) > 0
    assert meter.measure(run.path) == DiskUse()


def on_disk(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_du_lists_the_largest_first(halos: Halos, runs: Path) -> None:
    for name, size in (("small", 4096), ("large", 1 << 20)):
        run = MadeRun(runs, name)
        run.dir.prompts.write_bytes(b"x" * size)
    shown = halos("du", "--json")
    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [row["name"] for row in rows] == ["large", "small"]
    assert rows[0]["rows"] == 1 << 20
    assert rows[0]["total"] == sum(
        rows[0][kind] for kind in ("checkpoints", "trainer_states", "rows", "logs", "other")
    )
    table = halos("du").stdout.splitlines()
    assert table[0].split() == [
        "name", "checkpoints", "trainer", "states", "rows", "logs", "other", "total"
    ]  # fmt: skip
    assert [line.split("  ")[0] for line in table[1:]] == ["large", "small", "in all"]


def test_resume_all_goes_on_with_lost_runs_and_names_the_others(
    make_run: MakeRun, fake_halos: Halos, runs: Path
) -> None:
    lost = make_run("a-run")
    lose(lost)
    for name, reason in (("paused", "by its owner"), ("failed", "it broke")):
        run = make_run(name)
        run.behave(r1_sample_1="hold" if name == "paused" else "run out of memory")
        supervisor = run.start()
        if name == "paused":
            run.hold(1, "sample")
            supervisor.send_signal(signal.SIGTERM)
        supervisor.wait(timeout=30)
        assert run.state.status == name, reason
    MadeRun(runs, "ended").complete()

    done = fake_halos("resume", "--all")

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "a-run resumed",
        "failed left alone: it is failed (the GPU is full)",
        "paused left alone: it is paused (interrupted)",
    ]
    wait_for(lambda: lost.state.status == "completed")
    assert [run for run in ("paused", "failed") if lock_holder(RunDir(runs / run))] == []


def test_a_run_that_cannot_go_on_stops_no_other(
    make_run: MakeRun, fake_halos: Halos, runs: Path
) -> None:
    broken = MadeRun(runs, "a-broken-one")
    broken.dir.events.write_bytes(broken.dir.events.read_bytes() + b"rubbish\n")
    lost = make_run("a-run")
    lose(lost)

    done = fake_halos("resume", "--all", "--json")

    assert done.returncode == 1
    first, second = [json.loads(line) for line in done.stdout.splitlines()]
    assert (first["name"], first["outcome"]) == ("a-broken-one", "could not go on")
    assert "events.jsonl, line 3" in first["why"]
    assert second == {"name": "a-run", "outcome": "resumed", "why": ""}
    wait_for(lambda: lost.state.status == "completed")


@pytest.mark.parametrize("arguments", [(), ("a-run", "--all")])
def test_resume_wants_a_run_or_all(halos: Halos, arguments: tuple[str, ...]) -> None:
    refused = halos("resume", *arguments)
    assert refused.returncode == 2
    assert "--all" in refused.stderr


def test_resume_all_where_there_is_nothing_to_do(halos: Halos, runs: Path) -> None:
    MadeRun(runs, "ended").complete()
    done = halos("resume", "--all")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no unfinished runs" in done.stderr


def test_a_run_whose_gpus_another_holds_is_refused_before_anything_is_made(
    halos: Halos,
    environment: dict[str, str],
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(RUNTIME_DIR, str(tmp_path / "runtime"))
    environment[RUNTIME_DIR] = str(tmp_path / "runtime")
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    holder = Reservation(RunDir(tmp_path / "elsewhere" / "other-run"), {})
    assert holder.try_take(LaunchSettings(devices=(1,))) is None
    config = tmp_path / "run.toml"
    config.write_text(halos("init", "dpo").stdout.replace("PATH/TO/", "/nowhere/"))
    refused = halos("run", str(config), "--set", "launch.devices=[0, 1]", "--name", "mine")
    assert refused.returncode == 5, refused.stderr
    assert f"held by the run other-run ({tmp_path}/elsewhere/other-run)" in refused.stderr
    assert "--set launch.when_devices_busy=queue" in refused.stderr
    assert list(runs.iterdir()) == []
    holder.release()
    assert halos("run", str(config), "--set", "launch.devices=[0, 1]").returncode == 2


def test_a_tag_of_another_runs_attempt_is_no_stage_of_this_one(runs: Path) -> None:
    MadeRun(runs, "mine")
    attempt = RunDir(runs / "mine-too").attempt(1, "train", 1).path
    other = subprocess.Popen(["sleep", "1000"], env={ATTEMPT_TAG: str(attempt)})
    try:
        assert remove.remove_run(RunDir(runs / "mine")) > 0
    finally:
        other.kill()
        other.wait()


def test_a_run_has_title_note_and_tags_of_ones_own(halos: Halos, runs: Path) -> None:
    MadeRun(runs).whole_round(1)
    assert halos("tag", "a-run").stdout == halos("note", "a-run").stdout == ""
    for arguments in (
        ("title", "a-run", "Lower beta"),
        ("note", "a-run", "collapses at 12"),
        ("tag", "a-run", "baseline", "old"),
        ("tag", "a-run", "old", "--remove"),
    ):
        assert halos(*arguments).returncode == 0
    assert halos("note", "a-run").stdout == "collapses at 12\n"
    assert halos("tag", "a-run").stdout == "baseline\n"
    listed = halos("list").stdout.splitlines()
    assert "title" in listed[0]
    assert "a-run  Lower beta  baseline  lost" in listed[1]
    for verb in (("list",), ("status", "a-run")):
        told = json.loads(halos(*verb, "--json").stdout)
        assert (told["title"], told["tags"]) == ("Lower beta", ["baseline"])
    assert "Lower beta  baseline\ncollapses at 12\n" in halos("status", "a-run").stdout
    assert halos("note", "a-run", "").returncode == 0
    assert halos("note", "a-run").stdout == ""
    for refused in (("tag", "a-run", "a b"), ("tag", "a-run", "--remove"), ("title", "none")):
        assert halos(*refused).returncode in (2, 4)
