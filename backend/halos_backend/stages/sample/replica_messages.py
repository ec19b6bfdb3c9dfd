"""What a sample stage and its replicas say to each other."""

from __future__ import annotations

from typing import Any

import msgspec

from halos_backend.errors import (
    EngineDiedError,
    HalosError,
    MissingInputError,
    NonFiniteError,
    OutOfMemoryError,
    StageError,
    UsageError,
)
from halos_backend.records import FinishReason
from halos_backend.stages.sample.weights import Weights


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Take these weights, for a round of these settings. `arguments` are vLLM's EngineArgs."""

    settings: dict[str, Any]
    weights: Weights
    arguments: dict[str, Any]


class Ask(msgspec.Struct, frozen=True, tag=True):
    """Make this completion; see `Request`. `number` is what it is called in the answer."""

    number: int
    prompt_token_ids: tuple[int, ...]
    seed: int
    wants_logps: bool


class Park(msgspec.Struct, frozen=True, tag=True):
    """Give GPU memory back until the next `Begin`."""


Order = Begin | Ask | Park


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The policy is loaded."""


class Parked(msgspec.Struct, frozen=True, tag=True):
    """GPU memory is given back."""


class Made(msgspec.Struct, frozen=True, tag=True):
    """A completion; see `Generated`."""

    number: int
    token_ids: tuple[int, ...]
    text: str
    finish_reason: FinishReason
    logps: tuple[float, ...]


class Stepped(msgspec.Struct, frozen=True, tag=True):
    """It is at work."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """Its last word. `kind` is the name of the error, one of ours or not."""

    reason: str
    kind: str


Answer = Ready | Parked | Made | Stepped | Failed

KINDS: dict[str, type[HalosError]] = {
    error.__name__: error
    for error in (
        EngineDiedError,
        MissingInputError,
        NonFiniteError,
        OutOfMemoryError,
        StageError,
        UsageError,
    )
}
"""The errors that keep their kind on their way from a replica to the stage."""
