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
from halos_backend.store import requests
from halos_backend.store.run_dir import RunDir

from tests.chaos.chaos_run import ChaosRun
from tests.chaos.invariants import check_nothing_runs, check_results, check_stages
from tests.chaos.reference import NAME
from tests.chaos.schedule import SEED

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
    make_run: MakeRun, stopped: Path, cut: str
) -> None:
    run = make_run(begin_with=stopped)
    journal = run.path / "events.jsonl"
    content = journal.read_bytes()
    journal.write_bytes(content[: _cut_last_record(content, cut)])
    run.begin()
    run.finish()
    _check_settings(run)
    check_results(run.path, run.reference)
    check_stages(run.path, run.events)
    check_nothing_runs(run)


@pytest.mark.parametrize("number", range(EARLIER_CUTS))
def test_a_run_whose_journal_lost_records_ends_with_the_same_bits_or_is_refused(
    make_run: MakeRun, stopped: Path, number: int
) -> None:
    run = make_run(begin_with=stopped)
    journal = run.path / "events.jsonl"
    content = journal.read_bytes()
    last = content[:-1].rfind(b"\n") + 1
    draw = random.Random(f"{SEED}/cut/{number}")
    # every case its own stretch of the file, so that all of it is covered
    cut = int((number + draw.random()) * last / EARLIER_CUTS)
    print(f"seed {SEED} cut {number}: {cut} of {len(content)} bytes")  # noqa: T201
    journal.write_bytes(content[:cut])
    code, said = run.command("resume", NAME, "--no-ui", timeout_s=200)
    if code != ExitCode.COMPLETED:
        assert code in (ExitCode.FAILED, ExitCode.USAGE, ExitCode.NO_SUCH_RUN), said
        assert "events.jsonl" in said
        assert "Traceback" not in said
        assert cut < content.index(b"\n") + 1, "only a run that never began is refused"
        check_nothing_runs(run)
        return
    run.finish()
    _check_settings(run)
    check_results(run.path, run.reference)
    check_stages(run.path, run.events)
    check_nothing_runs(run)


def test_a_journal_that_lost_a_change_of_settings_is_not_gone_on_with_without_it(
    make_run: MakeRun,
) -> None:
    run = make_run()
    run.begin()
    run.wait_for_event("StageStarted", round=1, stage="train")
    change = requests.Set(request_id="slower", assignments=("train.lr=0.0005",))
    requests.send(RunDir(run.path), change)
    run.wait_for_event("SettingsChanged", request_id="slower", from_round=2)
    run.wait_for_event("StageStarted", round=2, stage="label")
    run.strike("client", "guardian", "supervisor", "stage")
    run.prefixes.clear()
    content = (run.path / "events.jsonl").read_bytes()
    lines = content.splitlines(keepends=True)
    index = next(i for i, line in enumerate(lines) if b"SettingsChanged" in line)
    (run.path / "events.jsonl").write_bytes(b"".join(lines[:index]))
    code, said = run.command("resume", NAME, "--no-ui", timeout_s=200)
    if code == ExitCode.COMPLETED:
        settings = json.loads((run.path / "rounds" / "0002" / "settings.json").read_text())
        assert settings["train"]["lr"] == 0.0005, "the run went on with other settings"
    else:
        assert "events.jsonl" in said
        assert "Traceback" not in said
    run.wait_for(lambda: not run.in_charge(), "all leave", revive=False)
    check_nothing_runs(run)


ATTEMPT_CUTS = {
    "a row of completions": ("sample", "completions.jsonl"),
    "a ledger of rewards": ("label", "rewards.jsonl"),
    "a training state": ("train", "partial_state/step_*/weights.safetensors"),
    "the header of a training state": ("train", "partial_state/step_*/state.json"),
    "a job": ("train", "job.json"),
}


@pytest.mark.parametrize("cut", ATTEMPT_CUTS)
def test_what_an_attempt_left_is_cut(make_run: MakeRun, cut: str) -> None:
    stage, pattern = ATTEMPT_CUTS[cut]
    draw = random.Random(f"{SEED}/attempt/{cut}")
    run = make_run()
    run.begin()
    run.wait_for_event("StageStarted", round=1, stage=stage)
    attempt = run.attempt(1, stage, 1)
    left = run.wait_for(lambda: [p for p in attempt.glob(pattern) if p.stat().st_size], cut)
    run.strike("client", "guardian", "supervisor", "stage")
    for path in [path for path in left if path.exists()]:
        content = path.read_bytes()
        path.write_bytes(content[: draw.randrange(len(content))])
    run.begin()
    run.finish()
    _check_settings(run)
    check_results(run.path, run.reference)
    check_nothing_runs(run)


@pytest.mark.parametrize("stage", ["sample", "label", "train"])
def test_an_output_that_is_cut_after_done_is_not_taken(make_run: MakeRun, stage: str) -> None:
    """DONE was on disk, its files were not: the stage is done again and the bits are the same."""
    run = make_run()
    run.begin()
    done = run.attempt(1, stage, 1) / "DONE"
    run.wait_for_event("StageStarted", round=1, stage=stage)
    run.strike("guardian", "supervisor", "client")
    run.wait_for(done.exists, "the stage goes on without them", revive=False)
    run.wait_for(lambda: not run.in_charge(), "the stage leaves", revive=False)
    names = {"sample": "completions.jsonl", "label": "feedback.jsonl"}
    output = done.parent / names.get(stage, "checkpoint/model.safetensors")
    content = output.read_bytes()
    output.write_bytes(content[: random.Random(f"{SEED}/output/{stage}").randrange(len(content))])
    run.begin()
    run.finish()
    failed = next(event for event in run.events if event["type"] == "StageFailed")
    assert (failed["stage"], failed["cause"]) == (stage, "damaged")
    assert str(output) in failed["reason"]
    check_results(run.path, run.reference)
    check_nothing_runs(run)


def _check_settings(run: ChaosRun) -> None:
    """Each round ran with the settings of the reference, and says so."""
    for round in (1, 2):
        relative = Path("rounds") / f"{round:04d}" / "settings.json"
        ours = json.loads((run.path / relative).read_text())
        assert ours == json.loads((run.reference.finished / relative).read_text())
