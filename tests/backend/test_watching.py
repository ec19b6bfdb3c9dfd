"""What a supervisor watches for its owner: guards, the disk, versions; and whom it tells."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from halos_backend.errors import ExitCode
from halos_backend.events import GuardTripped, RequestRejected, VersionsChanged
from halos_backend.findings import InputFile
from halos_backend.telemetry.log import telemetry_tail

from tests.support.fake_run import FakeRun
from tests.support.waiting import wait_for

MakeRun = Callable[..., FakeRun]
KL = {"kl": {"metric": "kl_initial", "above": 10}}


def trips(run: FakeRun) -> list[GuardTripped]:
    return [event for event in run.events if isinstance(event, GuardTripped)]


def test_a_guard_pauses_the_run_once_and_its_owner_may_go_on(make_run: MakeRun) -> None:
    run = make_run(num_rounds=2, guards=KL)
    run.summarize(r1_train={"kl_initial": 12.5})

    assert run.supervise() == ExitCode.COMPLETED

    (tripped,) = trips(run)
    assert (tripped.guard, tripped.round, tripped.stage) == ("kl", 1, "train")
    assert (tripped.metric, tripped.value, tripped.action) == ("kl_initial", 12.5, "pause")
    assert run.state.status == "paused"
    assert run.state.reason == tripped.reason
    assert run.state.rounds[0].finished_t is not None, "what is done is booked first"
    assert run.resume() == ExitCode.COMPLETED
    assert run.state.status == "completed"
    assert len(trips(run)) == 1


def test_a_guard_in_mid_round_stops_before_the_next_stage(make_run: MakeRun) -> None:
    run = make_run(guards={"cut": {"metric": "truncated_frac", "above": 0.5}})
    run.summarize(r1_sample={"truncated_frac": 0.75})

    run.supervise()

    assert run.state.status == "paused"
    assert run.attempts == [(1, "sample", 1)]


def test_a_guard_may_abort_or_only_warn(make_run: MakeRun) -> None:
    run = make_run(
        num_rounds=2,
        guards={
            "kl": {"metric": "kl_initial", "above": 10, "action": "abort"},
            "short": {"metric": "length_mean", "below": 5, "action": "warn"},
        },
    )
    run.summarize(r2_train={"kl_initial": 11.0})

    run.supervise()

    assert [(t.guard, t.round) for t in trips(run)] == [("short", 1), ("short", 2), ("kl", 2)]
    assert run.state.status == "aborted"
    assert str(run.dir.final.readlink()).startswith("rounds/0001/")


def test_a_loss_that_is_not_finite_stops_the_run_by_default(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_train_1="find a loss that is not finite")

    run.supervise()

    (tripped,) = trips(run)
    assert (tripped.guard, tripped.value) == ("non_finite_loss", None)
    assert run.failures[0].cause == "non_finite"
    assert run.state.status == "failed", "the stage has to be tried again"
    assert run.state.reason == "the loss is NaN"
    assert run.resume() == ExitCode.COMPLETED
    assert run.state.status == "completed"


def test_a_disk_without_room_for_a_round_pauses_before_it(make_run: MakeRun) -> None:
    run = make_run(guards={"disk": {"metric": "disk_free_bytes", "below": 1e18}})

    run.supervise()

    (tripped,) = trips(run)
    assert (tripped.guard, tripped.round, tripped.stage) == ("disk", 1, None)
    assert run.state.status == "paused"
    assert run.attempts == []


def test_the_owner_is_told_with_the_event_on_standard_input(
    make_run: MakeRun, tmp_path: Path
) -> None:
    told = tmp_path / "told.jsonl"
    program = f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read())"
    run = make_run(num_rounds=2, guards=KL, notify={"command": [sys.executable, "-c", program]})
    run.summarize(r1_train={"kl_initial": 12.5})

    run.supervise()
    run.resume()

    def messages() -> list[dict[str, Any]]:
        lines = told.read_text().splitlines() if told.exists() else []
        return [json.loads(line) for line in lines]

    wait_for(lambda: len(messages()) == 3)
    by_occasion = {message["occasion"]: message for message in messages()}
    assert set(by_occasion) == {"guard", "paused", "completed"}
    assert by_occasion["paused"]["run"] == "run"
    assert by_occasion["paused"]["status"] == "paused"
    assert by_occasion["guard"]["event"]["value"] == 12.5


def test_a_notification_that_fails_never_touches_the_run(make_run: MakeRun) -> None:
    run = make_run(notify={"command": ["/no/such/program"]})

    assert run.supervise() == ExitCode.COMPLETED

    assert run.state.status == "completed"
    wait_for(lambda: "/no/such/program" in run.dir.supervisor_log.read_text())


def test_what_a_stage_used_is_in_its_summary_and_on_record(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_label_1="hold")
    supervisor = run.start()
    attempt = run.hold(1, "label")
    wait_for(lambda: telemetry_tail(run.dir, 1))
    run.release(attempt)
    supervisor.wait(timeout=60)

    reading = telemetry_tail(run.dir, 1)[-1]
    assert reading.host.memory_total_bytes is not None
    assert reading.host.disk_free_bytes is not None
    summary = run.state.rounds[0].stages["label"].summary
    assert 0 < summary.host_peak_memory_bytes <= reading.host.memory_total_bytes


def test_a_guard_that_trips_in_the_last_round_leaves_nothing_to_pause(make_run: MakeRun) -> None:
    run = make_run(guards=KL)
    run.summarize(r1_train={"kl_initial": 12.5})
    run.supervise()

    assert len(trips(run)) == 1
    assert run.state.status == "completed"


def test_a_guard_is_not_lost_with_the_supervisor_that_was_to_check_it(make_run: MakeRun) -> None:
    run = make_run(num_rounds=2, guards=KL)
    run.summarize(r1_train={"kl_initial": 12.5})
    run.supervise()
    lines = run.dir.events.read_bytes().splitlines(keepends=True)
    ended = max(n for n, line in enumerate(lines) if b"StageFinished" in line)
    run.dir.events.write_bytes(b"".join(lines[: ended + 1]))  # as if it had died right there

    assert run.supervise() == ExitCode.COMPLETED

    assert [trip.guard for trip in trips(run)] == ["kl"]
    assert run.state.status == "paused"


def test_a_guard_that_is_on_record_does_not_trip_again(make_run: MakeRun) -> None:
    run = make_run(num_rounds=2, guards=KL)
    run.summarize(r1_train={"kl_initial": 12.5})
    run.supervise()
    lines = run.dir.events.read_bytes().splitlines(keepends=True)
    tripped = next(n for n, line in enumerate(lines) if b"GuardTripped" in line)
    run.dir.events.write_bytes(b"".join(lines[: tripped + 1]))

    assert run.supervise() == ExitCode.COMPLETED

    assert len(trips(run)) == 1
    assert run.state.status == "paused"


def test_a_changed_prompts_file_is_refused_by_name_until_it_is_back(make_run: MakeRun) -> None:
    run = make_run(num_rounds=2, pause_after_each_round=True)
    run.dir.prompts.write_text("{}\n")
    digest = hashlib.sha256(b"{}\n").hexdigest()
    status = run.dir.prompts.stat()
    noted = InputFile(
        what="prompts.jsonl",
        path="prompts.jsonl",
        bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        inode=status.st_ino,
        sha256=digest,
    )
    run.dir.prepared.write_text(json.dumps({"inputs": [msgspec.to_builtins(noted)]}))
    run.supervise()
    assert run.state.status == "paused"
    run.dir.prompts.write_text('{"other": 1}\n')

    assert run.resume() == ExitCode.COMPLETED

    (rejected,) = [event for event in run.events if isinstance(event, RequestRejected)]
    assert "prompts.jsonl changed" in rejected.reason
    assert run.state.status == "paused"
    run.dir.prompts.write_text("{}\n")
    assert run.resume() == ExitCode.COMPLETED
    assert run.state.status == "completed"


def test_other_code_than_before_is_announced(make_run: MakeRun) -> None:
    run = make_run(num_rounds=2, pause_after_each_round=True)
    run.supervise()
    journal = run.dir.events.read_bytes()
    known = run.state.versions
    assert known["python"] == platform.python_version()
    old = journal.replace(known["halos_backend"].encode(), b"0123456789ab")
    run.dir.events.write_bytes(old)

    run.resume()

    (changed,) = [event for event in run.events if isinstance(event, VersionsChanged)]
    assert changed.changes == {"halos_backend": ("0123456789ab", known["halos_backend"])}
