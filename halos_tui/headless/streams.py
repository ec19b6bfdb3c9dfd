"""Owns the standard streams: what becomes of text they cannot take, or that nobody reads."""

from __future__ import annotations

import codecs
import io
import os
import sys


def prepare_streams() -> None:
    """Lets no text fail for its characters, and no output for a stream that is closed.

    A character that the output's encoding does not have is written as JSON's escape, which is right
    in `--json` and readable elsewhere.
    """
    codecs.register_error("json_escape", _json_escape)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed before the start
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="json_escape")
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123


def silence_stdout() -> None:
    """Lets what is still buffered go nowhere, so that it does not raise again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _json_escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    escaped = "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
    return escaped, error.end
