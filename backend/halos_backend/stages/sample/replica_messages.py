"""What a sample stage and its replicas say to each other: a JSON line each, over a socket pair."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
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

CHUNK_BYTES = 1 << 16


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


class Channel:
    """One end of the socket pair. It may be read by one thread while another writes."""

    def __init__(self, ours: socket.socket, reads: Any) -> None:
        self._socket = ours
        self._decoder = msgspec.json.Decoder(reads)
        self._rest = b""
        self.is_closed = False

    def send(self, message: msgspec.Struct) -> None:
        """Raises OSError when nobody is there any more."""
        self._socket.sendall(msgspec.json.encode(message) + b"\n")

    def receive(self, *, wait: bool) -> Iterator[Any]:
        """What has come; with `wait` at least one message, unless the other end is closed."""
        self._socket.setblocking(wait)
        try:
            received = self._socket.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        finally:
            self._socket.setblocking(True)
        self.is_closed = not received
        *lines, self._rest = (self._rest + received).split(b"\n")
        for line in lines:
            yield self._decoder.decode(line)

    def shut(self) -> None:
        """The other end sees it closed, and so does a thread that reads here."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Nobody reads or writes here any more."""
        self._socket.close()
