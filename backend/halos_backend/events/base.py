"""Owns what all events have in common, and the words they share."""

from __future__ import annotations

from typing import Literal

import msgspec

Stage = Literal["sample", "label", "train"]
STAGES: tuple[Stage, ...] = ("sample", "label", "train")

Cause = Literal[
    "crashed",
    "damaged",
    "lost",
    "stalled",
    "stopped",
    "out_of_memory",
    "non_finite",
    "missing_input",
    "no_space",
    "other_policy",
    "over_budget",
    "refused",
]
"""Says why an attempt ended without a result.

`stopped`: its owner wanted that. `lost`: it was gone when a supervisor came back. `other_policy`:
the round was sampled by another policy than the one to be trained. `over_budget`: the judge's next
answer may cost more than its budget has left. `refused`: the stage itself
found that it cannot go on.
"""


class ProcessIdentity(msgspec.Struct, frozen=True):
    """Names a process so that a later one with the same pid is not taken for it."""

    pid: int
    start_time: float
    boot_id: str
    host: str


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """Is the root of all events; `t` is Unix seconds."""

    t: float


class StageEvent(Event, frozen=True, kw_only=True):
    """Is the root of the events of one attempt of one stage of one round."""

    round: int
    stage: Stage
    attempt: int


class AnswerEvent(Event, frozen=True, kw_only=True):
    """Is the root of the events that a request brings about, the first of them as its answer.

    `request_id` names the request; it is empty where none did, or where it has no name.
    """

    request_id: str
