"""Owns how two programs of ours speak to each other: a JSON line each, over a socket pair."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

CHUNK_BYTES = 1 << 16


class Channel:
    """Is one end of the socket pair. One thread may read it while another writes.

    `reads` is the type, or union of types, that the other end sends.
    """

    def __init__(self, ours: socket.socket, reads: Any) -> None:
        self._socket = ours
        self._decoder = msgspec.json.Decoder(reads)
        self._rest = b""
        self.is_closed = False

    def fileno(self) -> int:
        """Returns the descriptor, for `select`."""
        return self._socket.fileno()

    def send(self, message: msgspec.Struct) -> None:
        """Sends a message. Raises OSError when nobody is there any more."""
        self._socket.sendall(msgspec.json.encode(message) + b"\n")

    def receive(self, *, wait: bool) -> Iterator[Any]:
        """Yields what has come; with `wait` at least one message, unless the other end is
        closed.
        """
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
        """Shuts the channel: the other end sees it closed, and so does a thread that reads here."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes this end: nobody reads or writes here any more."""
        self._socket.close()
