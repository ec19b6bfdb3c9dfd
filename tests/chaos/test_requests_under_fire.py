"""Files that are no requests, and requests nobody may make, while processes are being killed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
from halos_backend.store import requests

from tests.support.chaos_run import ChaosRun
from tests.support.invariants import check_all
from tests.support.schedule import SEED, kills_in_a_row

MakeRun = Callable[..., ChaosRun]
SECRET = "what another user wrote"


def test_garbage_in_control_changes_nothing(make_run: MakeRun, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text(SECRET)
    draw = random.Random(f"{SEED}/garbage")
    run = make_run()
    run.begin()
    for number, kill in enumerate(kills_in_a_row(SEED, 999)[::2]):
        run.reach(kill)
        _drop(run.path / "control", number, draw, outside)
        run.strike(*kill.victims)
        _drop(run.path / "control", number + 100, draw, outside)
    run.wait_for_event("StageStarted", round=2, stage="train")
    run.wait_for(lambda: not list((run.path / "control").glob("[0-9]*.json")), "all are answered")
    run.finish()
    rejected = {e["request_id"]: e["reason"] for e in run.events if e["type"] == "RequestRejected"}
    assert "policy.path" in rejected["fixed"]
    assert outside.read_text() == SECRET
    assert SECRET not in (run.path / "events.jsonl").read_text()
    assert run.num_events("SettingsChanged") == run.num_events("AbortRequested") == 0
    check_all(run)


def _drop(folder: Path, number: int, draw: random.Random, outside: Path) -> None:
    """One of each sort, in no particular order."""
    kinds: list[Callable[[Path], object]] = [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(draw.randbytes(300)),
        lambda path: path.write_bytes(b'{"type":"abort"'),
        lambda path: path.write_bytes(b" " * (1 << 20)),
        lambda path: path.write_text('{"type":"abort","request_id":"../../escape"}'),
        lambda path: path.symlink_to(outside),
        lambda path: os.mkfifo(path),
        lambda path: path.mkdir(),
        lambda path: path.write_bytes(
            msgspec.json.encode(requests.Set(request_id="fixed", assignments=("policy.path=/etc",)))
        ),
        lambda path: path.write_bytes(
            msgspec.json.encode(requests.Set(request_id="gone", assignments=("../../x=1",)))
        ),
    ]
    draw.shuffle(kinds)
    for index, make in enumerate(kinds):
        make(folder / f"{number * 100 + index}-drop.json")


def test_a_request_is_answered_once_though_its_supervisor_dies(make_run: MakeRun) -> None:
    run = make_run()
    run.begin()
    run.wait_for_event("StageStarted", round=1, stage="label")
    change = requests.Set(request_id="later", assignments=("loop.num_rounds=2", "notify.bell=true"))
    requests.send(run.dir, change)
    for _ in range(3):
        run.strike("supervisor")
    run.wait_for(lambda: not list((run.path / "control").glob("[0-9]*.json")), "it is answered")
    run.finish()
    answers = [event for event in run.events if event.get("request_id") == "later"]
    assert len(answers) == 1
    check_all(run)
