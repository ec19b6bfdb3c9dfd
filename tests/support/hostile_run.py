"""A run whose every text, from its name to its completions, tries to steer the terminal."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import msgspec
from halos_backend.events import (
    GuardTripped,
    MetricsLogged,
    PhaseChanged,
    Progressed,
    RequestRejected,
    RunFailed,
    SettingsChanged,
    StageFailed,
    VersionsChanged,
    Warned,
    WorkerReplaced,
    WorkersChosen,
)
from halos_backend.records import Completion, Group
from halos_backend.store.own_words import OwnWords, write_own_words
from halos_backend.store.run_dir import RunDir
from halos_backend.telemetry.reading import GpuProcess, GpuReading, HostReading, Reading

from benchmarks.made_events import Shape
from benchmarks.made_runs import LiveRun, append, make_run, write_groups

WRITES_CLIPBOARD = "\x1b]52;c;aGFsb3M=\x07"
SETS_TITLE = "\x1b]0;owned\x07"
CLEARS = "\x1b[2J\x1b[3J\x1b[9999;1H"
COLOURS = "\x1b[31;5;77mred\x1b[0;77m"
ASKS = "\x1b[6n\x1b[>0q\x1bP+q544e\x1b\\"
C1 = "\x9b31;77m\x9d0;owned\x9c"
TURNS = "\u202eabc\u200f\u2066\u2069\u061c"
MARKUP = "[red]no[/red] [link=https://a.invalid]b[/link] [@click=app.quit]c[/]"
WIDE = "中文 e\u0301 👩‍💻 \u200b\ufeff"
TEXT = " ".join((MARKUP, WRITES_CLIPBOARD, SETS_TITLE, CLEARS, COLOURS, ASKS, C1, TURNS, WIDE))
LONG = "x" * 500_000 + TEXT + "y" * 500_000
NAME = f"evil{SETS_TITLE}{COLOURS}"

FORBIDDEN = tuple(
    text.encode()
    for text in (
        WRITES_CLIPBOARD, SETS_TITLE, "\x1b[3J", "\x1b[9999;1H", "\x1b[31;5;77m", "\x1b[0;77m",
        "\x1b[6n", "\x1b[>0q", "\x1bP", "\x1b]52", "\x1b]0;", "\u202e", "\u200f", "\u2066",
        "\u2069", "\u061c", "\u200b", "\ufeff",
    )
)  # fmt: skip
C1_CONTROLS = re.compile(rb"\xc2[\x80-\x9f]")
STRINGS = re.compile(rb"\x1b[\]P_^X](?!22;|11;\?)")
"""What begins a string for the terminal, but for the pointer's shape, which Textual sets, and our
question for the background."""


SGR = re.compile(rb"\x1b\[([0-9;:]*)m")
COLOURS_OF_SGR = {*range(30, 50), *range(90, 108), 58}


def colours_in(raw: bytes) -> set[bytes]:
    """The sequences that set a colour; those that say so in so many words, as 39, as well."""
    return {
        found[0]
        for found in SGR.finditer(raw)
        if COLOURS_OF_SGR & {int(number or 0) for number in re.split(rb"[;:]", found[1])}
    }


def steering_in(raw: bytes) -> list[bytes]:
    """What of a hostile run's texts reached the terminal."""
    found = [sequence for sequence in FORBIDDEN if sequence in raw]
    return found + C1_CONTROLS.findall(raw) + STRINGS.findall(raw)


def make_hostile_run(root: Path, *, is_failed: bool = False) -> RunDir:
    """At work or failed, in round 3; every kind of event says something hostile."""
    shape = Shape(num_rounds=2, num_planned=9, num_groups=4, num_kept=2, num_readings=10)
    run_dir = make_run(
        root / f"{'bad' if is_failed else 'at work'}{NAME}",
        shape,
        is_complete=False,
        started_t=time.time() - 100,
    )
    for round in (1, 2):
        write_groups(run_dir, round, hostile_groups(round))
    live = LiveRun(run_dir, shape)
    about: dict[str, Any] = {"t": time.time(), "round": 3, "stage": "train", "attempt": 1}
    attempt = live.start_training()
    live.train(20)
    append(
        attempt.events,
        [
            Warned(text=TEXT, **about),
            PhaseChanged(phase=TEXT, **about),
            Progressed(done=3, total=10, unit=TEXT, **about),
            MetricsLogged(step=21, metrics={"loss": 0.5, TEXT: 1.0}, **about),
        ],
    )
    log = "\n".join((TEXT, LONG, TEXT)).encode() + b"\n\xff\xfe\x1b]0;owned\x07 torn"
    for round in (1, 2, 3):
        for stage in ("sample", "label", "train"):
            run_dir.attempt(round, stage, 1).log.write_bytes(log)
    append(run_dir.events, hostile_events())
    if is_failed:
        append(run_dir.events, hostile_end())
    append(run_dir.telemetry, [hostile_reading()])
    write_own_words(run_dir, OwnWords(title=TEXT[:80], note=TEXT, tags=(COLOURS, TURNS)))
    live.beat()
    return run_dir


def hostile_groups(round: int) -> list[Group]:
    texts = (TEXT, f"{TEXT}\n{TEXT}", LONG, MARKUP)
    return [
        Group(
            f"{number}{TEXT}",
            ({"role": "system", "content": TEXT}, {"role": "user", "content": TEXT}),
            (1, 2, 3),
            round - 1,
            tuple(
                Completion(
                    f"{number}.{place}{SETS_TITLE}", text, (1,) * 9, "stop", reward=place - 1
                )
                for place, text in enumerate(texts)
            ),
            columns={TEXT: TEXT},
        )
        for number in range(4)
    ]


def hostile_events() -> list[msgspec.Struct]:
    t = time.time()
    about: dict[str, Any] = {"t": t, "round": 3, "stage": "train"}
    return [
        VersionsChanged(t=t, changes={TEXT: (TEXT, TEXT)}),
        SettingsChanged(
            t=t,
            request_id="a",
            from_round=4,
            changes={"prompts.system_prompt": (None, TEXT), "train.lr": (5e-6, 1e-6)},
            consequences=[TEXT],
            by=TEXT,
        ),
        RequestRejected(t=t, request_id=TEXT, reason=TEXT),
        WorkerReplaced(t=t, stage="train", reason=TEXT),
        WorkersChosen(t=t, is_warm=False, reason=TEXT),
        GuardTripped(
            guard=TEXT, metric=TEXT, value=1.0, reason=TEXT, action="warn", **about
        ),
    ]  # fmt: skip


def hostile_end() -> list[msgspec.Struct]:
    t = time.time()
    about: dict[str, Any] = {"t": t, "round": 3, "stage": "train", "attempt": 1}
    return [
        StageFailed(reason=TEXT, exit_code=1, last_lines=[TEXT, TEXT], **about),
        RunFailed(t=t, reason=TEXT),
    ]


def hostile_reading() -> Reading:
    process = GpuProcess(pid=7, used_bytes=9, name=TEXT, user=TEXT)
    gpu = GpuReading(
        index=0,
        uuid=TEXT,
        name=TEXT,
        utilization_frac=0.5,
        memory_used_bytes=1 << 30,
        memory_total_bytes=1 << 34,
        processes=(process,),
    )
    lost = GpuReading(index=1, lost=TEXT)
    return Reading(t=time.time(), host=HostReading(cpu_frac=0.5), gpus=(gpu, lost))
