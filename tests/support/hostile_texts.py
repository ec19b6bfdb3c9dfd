"""Texts that would steer a terminal, and a run that is full of them.

What stands between a terminal and the model is that none of `FORBIDDEN` is ever sent.
"""

from __future__ import annotations

from pathlib import Path

from halos_backend.events import Warned
from halos_backend.records import (
    Completion,
    Group,
    PreferencePair,
    UnpairedFeedback,
    write_rows,
)
from halos_backend.store.own_words import OwnMark
from halos_backend.store.writer import EventWriter

from tests.support.made_run import STARTED_T, MadeRun

CLIPBOARD = "\x1b]52;c;aG9zdGlsZQ==\x07"
TITLE = "\x1b]2;owned\x1b\\"
CURSOR = "\x1b[31;37H\x1b[?1049l\x1b[3J"
COLOURS = "\x1b[38;5;201mpink\x1b[0m"
C1 = "\x9b31m\x9d52;c;aG9zdGlsZQ==\x9c"
MARKUP = "[red]markup[/red] [@click=app.quit]here[/] [/nothing]"
DIRECTIONS = "\u202edesrever\u202c \u2066isolated\u2069 \u200f\u061c"
INVISIBLE = "zero\u200bwidth\ufeff tag\U000e0041"
DEVICE = "\x1bPq#0\x1b\\ \x1b_G\x1b\\ \x05 \x0e"
WIDE = "你好 👩‍👩‍👧 한국어"
COMBINING = "e\u0301 Z\u0334\u0352\u0307a\u0489lgo \u0301alone"
LONG = "x" * 1_000_000

STEERING = (CLIPBOARD, TITLE, CURSOR, COLOURS, C1, DIRECTIONS, INVISIBLE, DEVICE)
HOSTILE = " ".join((*STEERING, MARKUP, WIDE, COMBINING))
"""All of it but the long line."""

FORBIDDEN = tuple(
    text.encode()
    for text in (
        *("\x1b]52", "\x1b]2;", "\x1b]0;", "aG9zdGlsZQ==\x07", "\x1b[31;37H\x1b[?1049l", "\x1b[3J"),
        *("\x1b[38;5;201mpink", "\x9b", "\x9d", "\x9c", "\x1bPq", "\x1b_G", "\x05", "\x0e", "\x07"),
        *("\u202e", "\u202c", "\u2066", "\u2069", "\u200f", "\u061c", "\u200b", "\ufeff"),
        "\U000e0041",
    )
)
"""Byte sequences that only these texts could have brought to a terminal."""

SHOWN = ("\\x1b]52;c;aG9zdGlsZQ==\\x07", "[red]markup[/red]", "\\u202edesrever", "\\x9b31m")
"""How some of it looks where there is room for it."""


def hostile_run(root: Path) -> MadeRun:
    """A round that is done, whose every text is hostile, and one that runs and warns."""
    run = MadeRun(root)
    run.supervised()
    run.whole_round(1)
    completions = tuple(
        Completion(f"c{place}{CLIPBOARD}", text, (1, 2), "stop", reward=reward, unscored=reason)
        for place, (text, reward, reason) in enumerate(
            [(HOSTILE, 1.0, None), (LONG, 0.0, None), (f"{HOSTILE}\n{HOSTILE}", None, HOSTILE)]
        )
    )
    about = (f"prompt{TITLE}", ({"role": f"user{CURSOR}", "content": HOSTILE},), (1,))
    group = Group(*about, 0, completions, columns={f"column{CLIPBOARD}": HOSTILE, "more": [C1]})
    write_rows(run.dir.attempt(1, "label", 1).scores, [group])
    write_rows(
        run.dir.attempt(1, "label", 1).feedback,
        [
            PreferencePair(*about, completions[0], completions[1], 1.0, 0.0),
            UnpairedFeedback(*about, completions[2], True, 0.0),
        ],
    )
    write_rows(
        run.dir.own_marks, [OwnMark(1, about[0], completions[0].completion_id, True, HOSTILE)]
    )
    run.start_round(2)
    attempt = run.start_stage(2, "sample")
    lines = [HOSTILE, LONG, "\xff\xfe".join(STEERING), *STEERING, f"10%\r{HOSTILE}"]
    log = "\n".join(lines).encode() + b"\n\xff\xfe\x9b31m\xc2\n"
    attempt.log.write_bytes(log)
    run.dir.supervisor_log.write_bytes(log)
    with EventWriter(attempt.events) as writer:
        writer.append(Warned(t=STARTED_T, round=2, stage="sample", attempt=1, text=HOSTILE))
    return run
