"""Runs whose files a crash of the machine cut short, on real processes.

A cut inside the last record costs nothing. An earlier cut loses what was acknowledged: the run then
ends with the same bits or is refused by name, and never goes on with other settings.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from halos_backend.errors import ExitCode
from halos_backend.events import Stage
from halos_backend.store import requests

from tests.support.chaos_run import ChaosRun
from tests.support.invariants import check_nothing_runs, check_results, check_stages
from tests.support.reference import NAME
from tests.support.schedule import ROUNDS, SEED
from tests.support.stopped import ROUND, set_back

MakeRun = Callable[..., ChaosRun]
LAST_RECORD_CUTS = ("first byte", "middle", "last but one", "newline")
EARLIER_CUTS = 8


def _cut_last_record(content: bytes, cut: str) -> int:
    start = content[:-1].rfind(b"\n") + 1
    match cut:
        case "first byte":
            return start + 1
        case "middle":
            return (start + len(content)) // 2
        case "last but one":
            return len(content) - 2
        case _:
            return len(content) - 1


@pytest.mark.parametrize("cut", LAST_RECORD_CUTS)
def test_a_run_whose_last_record_is_torn_ends_with_the_same_bits(
    make_run: MakeRun, stopped_fakes: Path, cut: str
) -> None:
    run = make_run(begin_with=stopped_fakes)
    content = run.dir.events.read_bytes()
    run.dir.events.write_bytes(content[: _cut_last_record(content, cut)])
    run.begin()
    run.finish()
    _check(run)


@pytest.mark.parametrize("number", range(EARLIER_CUTS))
def test_a_run_whose_journal_lost_records_ends_with_the_same_bits_or_is_refused(
    make_run: MakeRun, stopped_fakes: Path, number: int
) -> None:
    _lose_records(make_run(begin_with=stopped_fakes), number)


def test_a_run_of_models_whose_journal_lost_records_ends_with_the_same_bits(
    make_run: MakeRun, stopped: Path
) -> None:
    _lose_records(make_run("models", begin_with=stopped), EARLIER_CUTS // 2)


def _lose_records(run: ChaosRun, number: int) -> None:
    content = run.dir.events.read_bytes()
    last = content[:-1].rfind(b"\n") + 1
    draw = random.Random(f"{SEED}/cut/{number}")
    # every case its own stretch of the file, so that all of it is covered
    cut = int((number + draw.random()) * last / EARLIER_CUTS)
    print(f"seed {SEED} cut {number}: {cut} of {len(content)} bytes")  # noqa: T201
    run.dir.events.write_bytes(content[:cut])
    code, said = run.command("resume", NAME, "--no-ui", timeout_s=200)
    if code != ExitCode.COMPLETED:
        assert code in (ExitCode.FAILED, ExitCode.USAGE, ExitCode.NO_SUCH_RUN), said
        assert "events.jsonl" in said
        assert "Traceback" not in said
        assert cut < content.index(b"\n") + 1, "only a run that never began is refused"
        assert run.witness.stop() == []
        check_nothing_runs(run)
        return
    run.finish()
    _check(run)


def test_a_journal_that_lost_a_change_of_settings_is_not_gone_on_with_without_it(
    make_run: MakeRun,
) -> None:
    run = make_run()
    run.begin()
    run.wait_for_event("StageStarted", round=1, stage="sample")
    change = requests.Set(request_id="slower", assignments=("train.lr=0.0005",))
    requests.send(run.dir, change)
    run.wait_for_event("SettingsChanged", request_id="slower", from_round=2)
    run.wait_for_event("StageStarted", round=2, stage="label")
    run.strike("client", "guardian", "supervisor", "stage")
    run.prefixes.clear()
    lines = run.dir.events.read_bytes().splitlines(keepends=True)
    index = next(i for i, line in enumerate(lines) if b"SettingsChanged" in line)
    run.dir.events.write_bytes(b"".join(lines[:index]))
    code, said = run.command("resume", NAME, "--no-ui", timeout_s=200)
    if code == ExitCode.COMPLETED:
        settings = json.loads(run.dir.round_settings(2).read_text())
        assert settings["train"]["lr"] == 0.0005, "the run went on with other settings"
    else:
        assert "events.jsonl" in said
        assert "Traceback" not in said
    run.wait_until_all_leave()
    assert run.witness.stop() == []
    check_nothing_runs(run)


ATTEMPT_CUTS: dict[str, tuple[Stage, str]] = {
    "a row of completions": ("sample", "completions.jsonl"),
    "a ledger of rewards": ("label", "rewards.jsonl"),
    "a training state": ("train", "partial_state/step_*/weights.safetensors"),
    "the header of a training state": ("train", "partial_state/step_*/state.json"),
    "a job": ("train", "job.json"),
}


@pytest.mark.parametrize("cut", ATTEMPT_CUTS)
def test_what_an_attempt_left_is_cut(make_run: MakeRun, stopped: Path, cut: str) -> None:
    stage, pattern = ATTEMPT_CUTS[cut]
    draw = random.Random(f"{SEED}/attempt/{cut}")
    run = make_run("models", begin_with=stopped)
    attempt = run.attempt(ROUND, stage, 1)
    if stage != "train":
        set_back(run.dir, stage)
        attempt.done.unlink()
    left = list(attempt.path.glob(pattern))
    assert left
    for path in left:
        content = path.read_bytes()
        path.write_bytes(content[: draw.randrange(len(content))])
    run.begin()
    run.finish()
    _check(run)


OUTPUTS: dict[Stage, str] = {
    "sample": "completions.jsonl",
    "label": "feedback.jsonl",
    "train": "checkpoint/model.safetensors",
}


@pytest.mark.parametrize("stage", OUTPUTS)
def test_an_output_that_is_cut_after_done_is_not_taken(
    make_run: MakeRun, stopped: Path, stage: Stage
) -> None:
    """DONE was on disk, its files were not: the stage is done again and the bits are the same."""
    run = make_run("models", begin_with=stopped)
    done = _end_unwatched(run) if stage == "train" else run.attempt(ROUND, stage, 1).done
    if stage != "train":
        set_back(run.dir, stage)
    output = done.parent / OUTPUTS[stage]
    content = output.read_bytes()
    output.write_bytes(content[: random.Random(f"{SEED}/output/{stage}").randrange(len(content))])
    run.begin()
    run.finish()
    damaged = next(event for event in run.events if event.get("cause") == "damaged")
    assert (damaged["type"], damaged["stage"]) == ("StageFailed", stage)
    assert str(output) in damaged["reason"]
    _check(run)


def _end_unwatched(run: ChaosRun) -> Path:
    """Let the train stage go on and end without client, guardian and supervisor."""
    run.begin()
    started = run.wait_for(
        lambda: [e for e in run.events if e["type"] == "StageStarted" and e["attempt"] == 2],
        "a second attempt",
    )
    run.strike("guardian", "supervisor", "client")
    done = run.attempt(ROUND, started[0]["stage"], 2).done
    run.wait_for(done.exists, "the stage goes on without them", revive=False)
    run.wait_until_all_leave()
    return done


def _check(run: ChaosRun) -> None:
    """What a cut leaves to hold: the journal is no longer what it was."""
    assert run.witness.stop() == []
    _check_settings(run)
    check_results(run.path, run.reference)
    check_stages(run.path, run.events, rounds=ROUNDS)
    check_nothing_runs(run)


def _check_settings(run: ChaosRun) -> None:
    """Each round ran with the settings of the reference, and says so."""
    for round in ROUNDS:
        relative = Path("rounds") / f"{round:04d}" / "settings.json"
        ours = json.loads((run.path / relative).read_text())
        assert ours == json.loads((run.reference.finished / relative).read_text())
