"""The owner's command: what it is given, and that nothing it does reaches the run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from halos_backend.config.notify import NotifySettings
from halos_backend.events import (
    GuardTripped,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunPaused,
    RunResumed,
)
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import apply, fold
from halos_backend.supervisor.notify import Notifier

from tests.support.journals import created, round_started, settings, supervised
from tests.support.waiting import wait_for

LONG_S = 60.0
PAUSED = RunPaused(t=9.0, reason="interrupted")
STATE = fold([created(settings()), supervised(), round_started(1, settings())])
TRIPPED = GuardTripped(
    t=9.0,
    guard="kl",
    round=1,
    stage="train",
    metric="kl_initial",
    value=12.0,
    reason="kl_initial is 12, above 10 (guard kl)",
    action="pause",
)
WRITE_INPUT = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())"


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path / "a-run")
    made.path.mkdir()
    return made


@pytest.fixture
def notifier(run_dir: RunDir) -> Iterator[Notifier]:
    made = Notifier(run_dir)
    yield made
    made.finish(LONG_S)


def tell(notifier: Notifier, event: RunEvent, *command: str, **changes: Any) -> None:
    told = NotifySettings.model_validate({"command": command, **changes})
    notifier.notify(event, apply(STATE, event), told)


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def logged(run_dir: RunDir) -> list[str]:
    return run_dir.supervisor_log.read_text().splitlines()


@pytest.mark.parametrize(
    ("event", "occasion", "status", "news"),
    [
        (PAUSED, "paused", "paused", "is paused: interrupted"),
        (RunFailed(t=9.0, reason="no GPU"), "failed", "failed", "failed: no GPU"),
        (TRIPPED, "guard", "pausing", "round 1: kl_initial is 12, above 10 (guard kl)"),
        (RunCompleted(t=9.0, reason="all done"), "completed", "completed", "completed: all done"),
    ],
)
def test_the_command_gets_the_event_as_json(
    notifier: Notifier,
    run_dir: RunDir,
    tmp_path: Path,
    event: RunEvent,
    occasion: str,
    status: str,
    news: str,
) -> None:
    tell(notifier, event, *python(WRITE_INPUT, tmp_path / "got"))
    notifier.finish(LONG_S)
    text = (tmp_path / "got").read_text()
    assert text.endswith("}\n")
    got = json.loads(text)
    about = got.pop("event")
    assert got == {
        "occasion": occasion,
        "run": "a-run",
        "path": str(run_dir.path),
        "status": status,
        "text": f"run a-run {news}",
    }
    assert (about["type"], about["t"]) == (type(event).__name__, 9.0)
    assert about["reason"] in news
    assert logged(run_dir) == []


def test_only_the_occasions_that_are_named_are_told(
    notifier: Notifier, run_dir: RunDir, tmp_path: Path
) -> None:
    command = python(WRITE_INPUT, tmp_path / "got")
    tell(notifier, PAUSED, *command, on=("failed", "completed"))
    tell(notifier, RunResumed(t=9.0), *command)
    tell(notifier, PAUSED)
    notifier.finish(LONG_S)
    assert not (tmp_path / "got").exists()
    assert not run_dir.supervisor_log.exists()


def test_a_reason_longer_than_a_pipe_holds_is_delivered(notifier: Notifier, tmp_path: Path) -> None:
    reason = "x" * 200_000
    tell(notifier, RunFailed(t=9.0, reason=reason), *python(WRITE_INPUT, tmp_path / "got"))
    notifier.finish(LONG_S)
    assert json.loads((tmp_path / "got").read_text())["event"]["reason"] == reason


def test_no_shell_reads_the_command(notifier: Notifier, tmp_path: Path) -> None:
    code = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
    tell(notifier, PAUSED, *python(code, tmp_path / "got", "$HOME; echo *"))
    notifier.finish(LONG_S)
    assert (tmp_path / "got").read_text() == "$HOME; echo *"


def test_what_the_command_prints_goes_to_the_supervisors_log(
    notifier: Notifier, run_dir: RunDir
) -> None:
    run_dir.supervisor_log.write_text("before\n")
    tell(notifier, PAUSED, *python("import sys; print('out', flush=True); sys.exit('err')"))
    notifier.finish(LONG_S)
    assert logged(run_dir) == [
        "before",
        "out",
        "err",
        f"notify: {sys.executable} (paused) ended with exit code 1",
    ]


def test_a_missing_program_is_one_line_in_the_log(notifier: Notifier, run_dir: RunDir) -> None:
    tell(notifier, PAUSED, "no-such-program-anywhere")
    notifier.finish(LONG_S)
    assert logged(run_dir) == [
        "notify: no-such-program-anywhere (paused) cannot be started: No such file or directory"
    ]


def test_a_command_that_cannot_be_handed_over_is_one_line(
    notifier: Notifier, run_dir: RunDir, capfd: pytest.CaptureFixture[str]
) -> None:
    tell(notifier, PAUSED, "true", "a\0b")
    run_dir.supervisor_log.unlink()
    run_dir.path.rmdir()
    tell(notifier, PAUSED, "true")
    notifier.finish(LONG_S)
    lines = capfd.readouterr().err.splitlines()  # the supervisor's own, which is its log
    assert len(lines) == 2
    assert all(line.startswith("notify: true (paused) cannot be started: ") for line in lines)


def test_a_command_that_hangs_is_killed_with_its_children(
    notifier: Notifier, run_dir: RunDir, tmp_path: Path
) -> None:
    code = (
        "import os, pathlib, sys, time\n"
        "child = os.fork()\n"
        "pathlib.Path(sys.argv[1] + str(os.getpid())).touch()\n"
        "time.sleep(600)\n"
    )
    tell(notifier, PAUSED, *python(code, tmp_path / "pid-"), timeout_s=3.0)
    notifier.finish(LONG_S)
    pids = [int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")]
    assert len(pids) == 2
    wait_for(lambda: not any(map(is_running, pids)))
    assert logged(run_dir) == [
        f"notify: {sys.executable} (paused) was killed: it took more than 3 s"
    ]


def test_notifying_waits_for_nothing_and_finishing_for_a_limit(
    notifier: Notifier, run_dir: RunDir, tmp_path: Path
) -> None:
    go, got = tmp_path / "go", tmp_path / "got"
    os.mkfifo(go)
    code = (
        "import pathlib, sys\n"
        "pathlib.Path(sys.argv[1]).read_text()\n"
        "pathlib.Path(sys.argv[2]).touch()\n"
    )
    tell(notifier, PAUSED, *python(code, go, got), timeout_s=LONG_S)
    notifier.finish(0.1)
    assert not got.exists()
    go.write_text("go on")  # its reader is there, so the command outlived `finish`
    wait_for(got.exists)


def test_a_command_that_leaves_a_child_behind_is_done(
    notifier: Notifier, run_dir: RunDir, tmp_path: Path
) -> None:
    go, got = tmp_path / "go", tmp_path / "got"
    os.mkfifo(go)
    code = (
        "import os, pathlib, sys\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    pathlib.Path(sys.argv[1]).read_text()\n"
        "    pathlib.Path(sys.argv[2]).write_text(os.environ['HALOS_ATTEMPT_DIR'])\n"
    )
    tell(notifier, PAUSED, *python(code, go, got))
    notifier.finish(LONG_S)
    go.write_text("go on")
    wait_for(lambda: got.exists() and got.read_text() != "")
    # a tag that no stage has, so that it is not killed as what a stage left
    assert got.read_text() == str(run_dir.path / "notify")
    assert logged(run_dir) == []


def test_messengers_that_ended_are_no_zombies(notifier: Notifier) -> None:
    messenger = the_messenger(notifier, "true")
    wait_for(lambda: messenger.status() == psutil.STATUS_ZOMBIE)
    notifier.poll()
    assert not messenger.is_running()


def test_the_messenger_shares_the_supervisors_session_but_not_its_group(
    notifier: Notifier, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    messenger = the_messenger(notifier, *python("import sys; open(sys.argv[1]).read()", go))
    assert os.getsid(messenger.pid) == os.getsid(0)
    assert os.getpgid(messenger.pid) == messenger.pid
    go.write_text("go on")
    notifier.finish(LONG_S)


def the_messenger(notifier: Notifier, *command: str) -> psutil.Process:
    """The process that is started to run the command; other tests may have left their own."""
    others = psutil.Process().children()
    tell(notifier, PAUSED, *command)
    (messenger,) = (child for child in psutil.Process().children() if child not in others)
    return messenger


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
