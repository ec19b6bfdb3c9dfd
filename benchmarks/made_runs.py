"""Makes run directories of any size with the project's own events, and a run that lives.

It is no benchmark itself; the tests of the app use it too. No process belongs to these runs: the
one that writes passes for the supervisor of those at work.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from halos_backend.events import STAGES, AttemptEvent, PhaseChanged, RunCompleted
from halos_backend.records import Completion, Group, PreferencePair, write_rows
from halos_backend.store.identity import own_identity
from halos_backend.store.registry import write_snapshot
from halos_backend.store.run_dir import AttemptDir, RunDir
from halos_backend.store.state import fold

from benchmarks.made_events import (
    ROUND_S,
    Shape,
    attempt_events,
    beginning,
    make_settings,
    readings,
    round_events,
    step_events,
)

STARTED_T = 1_790_000_000.0

_encode = msgspec.json.Encoder().encode


def make_run(
    path: Path,
    shape: Shape,
    *,
    is_complete: bool = True,
    started_t: float = STARTED_T,
    seed: int = 0,
) -> RunDir:
    """Makes a run of finished rounds, with its snapshot beside its journal."""
    run_dir = RunDir(path)
    path.mkdir(parents=True)
    numbers = random.Random(seed)
    settings = make_settings(shape)
    events = beginning(path.name, settings, shape, t=started_t)
    for round in range(1, shape.num_rounds + 1):
        t = started_t + ROUND_S * (round - 1)
        events += round_events(numbers, round, t, settings, shape)
        for stage in STAGES:
            attempt = run_dir.attempt(round, stage, 1)
            attempt.path.mkdir(parents=True)
            append(attempt.events, attempt_events(numbers, round, stage, t, shape))
        if shape.num_groups and round > shape.num_rounds - shape.num_kept:
            write_groups(run_dir, round, make_groups(numbers, round, shape.num_groups))
    if is_complete:
        ended_t = started_t + ROUND_S * shape.num_rounds
        events.append(RunCompleted(t=ended_t, reason=f"all {shape.num_rounds} rounds are done"))
    append(run_dir.events, events)
    append(
        run_dir.telemetry,
        readings(numbers, shape.num_readings, t=started_t + ROUND_S * shape.num_rounds),
    )
    write_snapshot(run_dir, fold(events), offset=run_dir.events.stat().st_size)
    return run_dir


class LiveRun:
    """Goes on with a run that `make_run` left incomplete."""

    def __init__(self, run_dir: RunDir, shape: Shape, *, seed: int = 1) -> None:
        self.dir = run_dir
        self._shape = shape
        self._numbers = random.Random(seed)
        self._settings = make_settings(shape)
        self._round = shape.num_rounds
        self._step = 0
        self.dir.lock.write_bytes(_encode(own_identity()))
        self.beat()

    def beat(self) -> None:
        """Gives a sign of life; a supervisor gives one every few seconds."""
        self.dir.heartbeat.touch()

    def start_training(self) -> AttemptDir:
        """Plays the next round up to the first step of its train stage; `train` does the rest."""
        self._round += 1
        self._step = 0
        now = time.time()
        events = round_events(self._numbers, self._round, now, self._settings, self._shape)
        append(self.dir.events, events[:-2])
        for stage in STAGES:
            attempt = self.dir.attempt(self._round, stage, 1)
            attempt.path.mkdir(parents=True)
            if stage != "train":
                append(
                    attempt.events,
                    attempt_events(self._numbers, self._round, stage, now, self._shape),
                )
        about: dict[str, Any] = {"round": self._round, "stage": "train", "attempt": 1}
        append(attempt.events, [PhaseChanged(t=now, phase="training", **about)])
        return attempt

    def train(self, num_steps: int = 1, *, of: int = 1000) -> None:
        """Writes that so many steps happened: two events each, and a line of the log."""
        attempt = self.dir.attempt(self._round, "train", 1)
        events: list[AttemptEvent] = []
        for _ in range(num_steps):
            self._step += 1
            events += step_events(self._numbers, self._round, self._step, of, time.time())
        append(attempt.events, events)
        with attempt.log.open("ab") as log:
            log.write(f"step {self._step} of {of}\n".encode())

    def finish_round(self) -> None:
        self._step = 0
        now = time.time()
        events = round_events(self._numbers, self._round, now, self._settings, self._shape)
        append(self.dir.events, events[-2:])

    def read_machine(self) -> None:
        append(self.dir.telemetry, readings(self._numbers, 1, t=time.time()))


def append(path: Path, records: Iterable[msgspec.Struct]) -> None:
    """Appends whole lines, in one write."""
    content = b"".join(_encode(record) + b"\n" for record in records)
    with path.open("ab", buffering=0) as file:
        file.write(content)


def make_groups(numbers: random.Random, round: int, count: int) -> list[Group]:
    """Makes scored groups of 8 completions."""
    groups = []
    for number in range(count):
        answers = [" ".join(map(str, numbers.sample(range(10), 6))) for _ in range(8)]
        completions = tuple(
            Completion(
                f"{number}.{place}", text, tuple(range(7)), "stop", reward=numbers.gauss(0, 1)
            )
            for place, text in enumerate(answers)
        )
        prompt = ({"role": "user", "content": f"sort {answers[0][::-1]}"},)
        groups.append(Group(f"{round}-{number}", prompt, (1, 2, 3), round - 1, completions))
    return groups


def write_groups(run_dir: RunDir, round: int, groups: Sequence[Group]) -> None:
    """Writes completions, scores, and the best against the worst of each group as feedback."""
    write_rows(run_dir.attempt(round, "sample", 1).completions, map(unscored, groups))
    label = run_dir.attempt(round, "label", 1)
    write_rows(label.scores, groups)
    write_rows(label.feedback, map(best_against_worst, groups))


def unscored(group: Group) -> Group:
    bare = (msgspec.structs.replace(one, reward=None) for one in group.completions)
    return msgspec.structs.replace(group, completions=tuple(bare))


def best_against_worst(group: Group) -> PreferencePair:
    scored = sorted(
        (one for one in group.completions if one.reward is not None), key=lambda one: one.reward
    )
    low, high = scored[0], scored[-1]
    about = (group.prompt_id, group.prompt, group.prompt_token_ids)
    return PreferencePair(*about, high, low, high.reward, low.reward)
