"""Where no app can be shown, and what is said when a run or the app is left."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from halos_backend.events import RunAborted, RunEvent, RunPaused
from halos_backend.store.registry import load_state

from halos_tui.headless import notices
from tests.headless.conftest import Halos
from tests.support.made_run import MadeRun


@pytest.mark.parametrize("arguments", [(), ("attach", "a-run"), ("--read-only",)])
def test_without_a_terminal_one_sentence_says_what_there_is_instead(
    halos: Halos, runs: Path, arguments: tuple[str, ...]
) -> None:
    MadeRun(runs)
    refused = halos(*arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.count("\n") == 1
    assert "the app needs a terminal, and its input is none" in refused.stderr
    assert "halos-tui list" in refused.stderr


def test_attach_names_a_run_that_is_not_there(plain_halos: Halos) -> None:
    refused = plain_halos("attach", "nope")
    assert refused.returncode == 4
    assert "nope" in refused.stderr


@pytest.mark.parametrize("verb", [(), ("attach",), ("run",), ("demo",)])
def test_help_names_the_options_of_the_app(halos: Halos, verb: tuple[str, ...]) -> None:
    helped = halos(*verb, "--help").stdout
    for option in ("--read-only", "--ascii", "--no-mouse", "--theme", "--runs-dir"):
        assert option in helped


@pytest.mark.parametrize(
    ("last", "verbs"),
    [
        (None, ["attach", "watch", "pause"]),
        (RunPaused(t=9.0, reason="by its owner"), ["resume", "attach", "abort"]),
        (RunAborted(t=9.0, request_id="r1"), ["completions", "attach", "rm"]),
    ],
)
def test_three_commands_to_try_next_fit_the_status(
    tmp_path: Path, last: RunEvent | None, verbs: list[str]
) -> None:
    run = MadeRun(tmp_path, "mine")
    run.whole_round(1)
    if last is not None:
        run.say(last)
    assert _next(run) == [f"halos-tui {verb} mine --runs-dir {tmp_path}" for verb in verbs]


def test_a_completed_run_is_looked_at_and_extended_and_the_demo_followed_by_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HALOS_RUNS_DIR", str(tmp_path))
    run = MadeRun(tmp_path, "mine")
    run.whole_round(1)
    run.complete()
    look = ["halos-tui completions mine", "halos-tui attach mine"]
    assert _next(run) == [*look, "halos-tui extend mine --rounds 1"]
    monkeypatch.setenv("HALOS_CACHE_DIR", "/models")  # where the run's policy is
    assert _next(run) == [*look, "halos-tui init --help"]


def test_the_end_of_a_followed_run_says_what_was_reached_and_what_is_next(
    halos: Halos, runs: Path
) -> None:
    run = MadeRun(runs, "mine")
    for round, reward in ((1, 0.25), (2, 0.75)):
        run.whole_round(round, reward_mean=reward)
    run.complete()
    said = halos("watch", "mine").stderr
    rewards = "0.25 ±0.10 and 0.75 ±0.10 (+0.50 ±0.14)"
    assert f"mean reward before the training of rounds 1 and 2: {rewards}" in said
    assert f"result: {run.dir.final}\nnext:\n  halos-tui completions mine " in said


def _next(run: MadeRun) -> list[str]:
    """The commands, without what they are for."""
    head, *lines = notices.next_steps(run.dir, load_state(run.dir)).splitlines()
    assert head == "next:"
    commands = [line.strip().split("   ")[0].strip() for line in lines]
    assert all(shlex.split(command)[0] == "halos-tui" for command in commands)
    return commands
