"""The short look at a run: the same from a snapshot as from the whole journal."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from halos_backend.errors import CorruptFileError, UsageError
from halos_backend.events import (
    GuardTripped,
    PauseRequested,
    RunExtended,
    SettingsChanged,
    StageDelayed,
)
from halos_backend.store.registry import load_state, write_snapshot
from halos_backend.store.run_summary import RunSummary, summarize_run, summary_of

from tests.support.made_run import STARTED_T, MadeRun

T = STARTED_T + 100


def snapshot(run: MadeRun) -> None:
    write_snapshot(run.dir, load_state(run.dir), offset=run.dir.events.stat().st_size)


def look(run: MadeRun) -> RunSummary:
    return summarize_run(run.dir, journal_bytes=run.dir.events.stat().st_size)


def grow(run: MadeRun, kind: str) -> None:
    match kind:
        case "created":
            return
        case "begun":
            run.whole_round(1, reward_mean=0.25)
            run.start_round(2)
            run.start_stage(2, "sample")
        case "failed":
            run.start_round(1)
            run.start_stage(1, "sample")
            run.fail_stage(1, "sample", "no memory left")
        case "unscored":
            run.whole_round(1, reward_mean=None)
        case "compared":
            run.whole_round(1, reward_stderr=0.25)
            errors = [(1, 0.125)]
            run.whole_round(2, reward_mean=0.75, reward_stderr=0.25, reward_change_stderrs=errors)
        case "changed":
            run.whole_round(1)
            changes = {"train.lr": (5e-6, 1e-6)}
            event = SettingsChanged(t=T, from_round=2, changes=changes, request_id="r", by="me")
            run.say(event)
            run.start_round(2)
        case "extended":
            run.whole_round(1)
            run.complete()
            changes = {"loop.num_rounds": (2, 5)}
            run.say(RunExtended(t=T, request_id="r", num_rounds=3, changes=changes))
        case "waiting":
            run.start_round(1)
            run.say(StageDelayed(t=T, round=1, stage="sample", attempt=1, reason="a GPU is taken"))
        case "guarded":
            run.whole_round(1)
            run.say(PauseRequested(t=T, request_id="r"))
            about = {"guard": "kl", "metric": "kl_initial", "round": 1, "stage": "train"}
            run.say(GuardTripped(t=T, value=12.0, reason="KL is 12", action="pause", **about))
        case _:
            run.whole_round(1, reward_mean=0.5)
            run.whole_round(2, reward_mean=0.75)
            run.complete()


@pytest.mark.parametrize(
    "kind",
    [
        "created",
        "begun",
        "failed",
        "unscored",
        "compared",
        "changed",
        "extended",
        "waiting",
        "guarded",
        "completed",
    ],
)
def test_a_snapshot_and_the_journal_show_the_same(tmp_path: Path, kind: str) -> None:
    run = MadeRun(tmp_path)
    grow(run, kind)
    from_journal = look(run)
    snapshot(run)

    assert look(run) == from_journal == summary_of(load_state(run.dir))
    assert look(run).settings == from_journal.settings


def test_what_is_seen(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, loss="kto", feedback="binary", num_rounds=7, num_prompts=14)
    run.whole_round(1, reward_mean=0.25)
    run.whole_round(2, reward_mean=None)
    run.whole_round(3, reward_mean=0.5)
    run.start_round(4)
    run.start_stage(4, "sample")
    snapshot(run)

    seen = look(run)

    assert (seen.status, seen.round, seen.num_rounds, seen.stage) == ("running", 4, 7, "sample")
    assert (seen.loss, seen.rewards, seen.created_t) == ("kto", (0.25, 0.5), STARTED_T)
    assert seen.settings["sample"]["group_size"] == 2


def test_what_came_after_the_snapshot_is_seen(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    snapshot(run)
    run.whole_round(1, reward_mean=0.5)

    assert look(run).rewards == (0.5,)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"offset": 1}', b'{"offset": 1, "state": {"settings": 3}}']
)
def test_a_spoilt_snapshot_is_no_hindrance(tmp_path: Path, content: bytes) -> None:
    run = MadeRun(tmp_path)
    run.whole_round(1, reward_mean=0.5)
    run.dir.state.write_bytes(content)

    assert look(run).rewards == (0.5,)


def test_a_snapshot_with_a_mean_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.whole_round(1, reward_mean=0.5)
    snapshot(run)
    broken = msgspec.json.decode(run.dir.state.read_bytes())
    broken["state"]["rounds"][0]["stages"]["label"]["summary"]["reward_mean"] = "high"
    run.dir.state.write_bytes(msgspec.json.encode(broken))

    assert look(run).rewards == ()


def test_a_journal_that_says_nothing_of_a_run_is_corrupt(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.dir.events.write_bytes(b"")

    with pytest.raises(CorruptFileError, match="this is no run's journal"):
        look(run)


def test_a_run_of_a_later_version_is_refused(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    content = run.dir.events.read_bytes().replace(b'"schema_version":1', b'"schema_version":9')
    run.dir.events.write_bytes(content)
    snapshot(run)

    with pytest.raises(UsageError, match="install that version"):
        look(run)
