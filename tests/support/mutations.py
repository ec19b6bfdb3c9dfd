"""Draws damaged and strange variants of good input, each from a seed of its own."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

DEEP = 1_500
"""Deeper than Python's own recursion limit, and than any file of a person's."""

PIECES = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe9", b"\\ud83d", "\U0001f600".encode(),
    "\u202e".encode(), b"\x1b[31m", b"\r\n", b"\n", b",", b";", b'"', b"'", b"[", b"]", b"{", b"}",
    b"NaN", b"-Infinity", b"null", b"true", b"1e999", b"9" * 5_000, b"-1", b"=", b"[" * DEEP,
    b"{{", b"}}", b"{%", b"%}", b"{{ tools | length }}", b"{{ 1 / 0 }}", b"{{ messages.x.y }}",
    b"{{ raise_exception('no') }}", b"{% generation %}", b"{% break %}",
)  # fmt: skip

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 7, 2**31, 2**63, 10**40, -(10**40), 0.5, -0.0, 1e308, math.nan,
    math.inf, "", " ", "\x00", "\ud83d", "\U0001f600" * 9, "a" * 70_000, "../..", "/dev/zero", "~",
    "~nobody-of-that-name/x", "float32", "llama", [], {}, [[]], [None], {"": None}, ["a", 1, None],
    {"role": "user", "content": "hi"}, [{"role": "user", "content": 3}],
)  # fmt: skip


def mutate_bytes(draw: random.Random, content: bytes) -> bytes:
    """One to three changes of the kind that editors, copies and other programs make."""
    for _ in range(draw.randint(1, 3)):
        content = draw.choice(BYTE_CHANGES)(draw, content)
    return content


def mutate_value(draw: random.Random, value: Any) -> Any:
    """A copy of a JSON value with one or two of its parts replaced, renamed or taken out."""
    for _ in range(draw.randint(1, 2)):
        value = _mutate_part(draw, value)
    return value


def as_json(value: Any) -> bytes:
    """NaN and halves of characters as Python writes them."""
    return json.dumps(value).encode()


def nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


def _mutate_part(draw: random.Random, value: Any) -> Any:
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(sorted(value))
        changed = dict(value)
        match draw.random():
            case share if share < 0.15:
                del changed[key]
            case share if share < 0.25:
                changed[draw.choice([f"{key}x", key.upper(), "", "\x00"])] = changed.pop(key)
            case _:
                changed[key] = _mutate_part(draw, value[key])
        return changed
    if isinstance(value, list) and value and draw.random() < 0.7:
        at = draw.randrange(len(value))
        return [*value[:at], _mutate_part(draw, value[at]), *value[at + 1 :]]
    return draw.choice(VALUES) if draw.random() < 0.97 else nested(300)


def _span(draw: random.Random, content: bytes) -> tuple[int, int]:
    start = draw.randrange(len(content) + 1)
    return start, min(len(content), start + draw.choice([1, 2, 8, 64, 512]))


def _cut(draw: random.Random, content: bytes) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _take_out(draw: random.Random, content: bytes) -> bytes:
    start, end = _span(draw, content)
    return content[:start] + content[end:]


def _repeat(draw: random.Random, content: bytes) -> bytes:
    start, end = _span(draw, content)
    return content[:end] + content[start:end] * draw.choice([1, 1, 3]) + content[end:]


def _flip(draw: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 4, 16]) if changed else 0):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def _insert(draw: random.Random, content: bytes) -> bytes:
    at = draw.randrange(len(content) + 1)
    return content[:at] + draw.choice(PIECES) + content[at:]


def _begin(draw: random.Random, content: bytes) -> bytes:
    return draw.choice(PIECES) + content


def _swap(draw: random.Random, content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    draw.shuffle(lines)
    return b"".join(lines)


def _encode_otherwise(draw: random.Random, content: bytes) -> bytes:
    text = content.decode(errors="replace")
    return text.encode(draw.choice(["utf-16", "utf-8-sig", "utf-32-le"]))


def _empty(_draw: random.Random, _content: bytes) -> bytes:
    return b""


BYTE_CHANGES: Sequence[Callable[[random.Random, bytes], bytes]] = (
    _cut, _take_out, _repeat, _flip, _insert, _insert, _insert, _begin, _swap, _encode_otherwise,
    _empty,
)  # fmt: skip
