"""What holds of a run that went to its end, whatever was done to it on the way."""

from __future__ import annotations

import fcntl
import json
from collections import Counter
from pathlib import Path

from halos_backend.events import STAGES, Stage
from halos_backend.store.manifest import find_damage, read_done
from halos_backend.store.reader import run_journal
from halos_backend.store.run_dir import AttemptDir
from halos_backend.store.state import RunState, fold

from tests.support.chaos_run import ChaosRun
from tests.support.journal import Event, read_events
from tests.support.reference import Reference
from tests.support.waiting import wait_for

FAKED: tuple[Stage, ...] = ("sample", "train")


def check_all(run: ChaosRun) -> None:
    """The run is completed, with the reference's bits, and nothing of it is left."""
    assert run.witness.stop() == []
    check_journal(run.path / "events.jsonl", run.prefixes)
    check_stages(run.path, run.events, rounds=run.reference.rounds)
    check_results(run.path, run.reference)
    if not run.reference.has_models:
        check_nothing_was_done_twice(run)
    check_nothing_runs(run)


def check_journal(path: Path, prefixes: list[bytes]) -> RunState:
    """It only grew, folds, and its times and generations rise."""
    content = path.read_bytes()
    for prefix in prefixes:
        assert content.startswith(prefix), "what the journal said once was changed"
    events = run_journal(path).read()
    times = [event.t for event in events]
    assert times == sorted(times)
    generations = [
        event.generation for event in events if type(event).__name__ == "SupervisorStarted"
    ]
    assert generations == list(range(1, len(generations) + 1))
    state = fold(events)
    assert state.status == "completed"
    assert state.active == ()
    return state


def check_stages(run: Path, events: list[Event], *, rounds: tuple[int, ...]) -> None:
    """Each stage of each round counts once, and is never begun again after that."""
    kinds = Counter(event["type"] for event in events)
    assert kinds["RunCompleted"] == 1
    for kind in ("RoundStarted", "RoundFinished"):
        assert [e["round"] for e in events if e["type"] == kind] == list(rounds)
    for round in rounds:
        for stage in STAGES:
            about = [e for e in events if (e.get("round"), e.get("stage")) == (round, stage)]
            names = [event["type"] for event in about]
            assert names.count("StageFinished") == 1, f"round {round} {stage}: {names}"
            assert names[-1] == "StageFinished", f"round {round} {stage}: {names}"
            attempts = [e["attempt"] for e in about if e["type"] == "StageStarted"]
            assert attempts == sorted(set(attempts))
            assert about[-1]["attempt"] == attempts[-1]
            for attempt in attempts:
                directory = run / "rounds" / f"{round:04d}" / stage / f"attempt_{attempt}"
                assert (directory / "job.json").is_file(), "the evidence of an attempt stays"


def check_results(run: Path, reference: Reference) -> None:
    """Outputs are what DONE says, prompts are used once, the final bits are the reference's."""
    state = fold(run_journal(run / "events.jsonl").read())
    used: list[str] = []
    for round in state.rounds:
        for stage in round.stages.values():
            directory = (
                run / "rounds" / f"{round.round:04d}" / stage.stage / f"attempt_{stage.attempt}"
            )
            manifest = read_done(directory)
            assert manifest is not None, f"{directory} has no DONE"
            if not any(path.startswith(f"rounds/{round.round:04d}/") for path in state.pruned):
                assert find_damage(directory, manifest, full=True) is None
        number = round.stages["sample"].attempt
        completions = (
            run / "rounds" / f"{round.round:04d}/sample/attempt_{number}/completions.jsonl"
        )
        ids = [json.loads(line)["prompt_id"] for line in completions.read_text().splitlines()]
        assert ids == reference.prompt_ids(round.round)
        used += ids
    assert len(used) == len(set(used)), "a prompt was used twice"
    assert (run / "final" / "model.safetensors").read_bytes() == reference.weights


def check_nothing_was_done_twice(run: ChaosRun) -> None:
    """Each attempt of a fake stage begins with all that those before it left complete."""
    for round in run.reference.rounds:
        for stage in FAKED:
            left = 0
            for attempt in _attempts(run, round, stage):
                events = read_events(attempt.events) if attempt.events.exists() else []
                taken = next((e["done"] for e in events if e["type"] == "Progressed"), None)
                if taken is not None:
                    assert taken >= left, f"{attempt.path} took over {taken} of {left}"
                    left = max(left, _num_complete(attempt, stage, taken, events))


def _attempts(run: ChaosRun, round: int, stage: Stage) -> list[AttemptDir]:
    """In the order of their numbers, those that the journal does not know among them."""
    number = len(list((run.dir.round(round) / stage).glob("attempt_*")))
    return [run.attempt(round, stage, attempt) for attempt in range(1, number + 1)]


def _num_complete(attempt: AttemptDir, stage: Stage, taken: int, events: list[Event]) -> int:
    """Rows or steps that a later attempt is to take over; states in mid-round are deleted."""
    if attempt.done.exists():
        return 0
    if stage == "sample":
        return attempt.completions.read_bytes().count(b"\n")
    return taken + sum(event["type"] == "MetricsLogged" for event in events)


def check_nothing_runs(run: ChaosRun) -> None:
    """No process of the run is left, and its lock is free."""
    left = [process for process in run.processes() if process.is_alive]
    assert left == []
    check_lock_is_free(run.path)


def check_lock_is_free(run: Path) -> None:
    """A process that ends loses its memory, by which we find it, before it loses its locks."""
    wait_for(lambda: _can_lock(run / "supervisor.lock"), deadline_s=5.0)


def _can_lock(path: Path) -> bool:
    with path.open("r+b") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
