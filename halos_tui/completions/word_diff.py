"""Finds what differs between a chosen and a rejected completion, word by word.

The time is bounded, because it is drawn while one scrolls: texts whose middles are long, or repeat
their words so often that comparing them takes long, differ in all of the middle.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher

WORD = re.compile(r"\S+")
MAX_MIDDLE = 8_000
"""A middle, between what both texts begin and end with, has at most so many characters."""
MAX_EQUAL_PAIRS = 12_000
"""So many pairs of equal words, one of each text, are compared: `difflib` reads these again and
again."""

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Differences:
    """Gives the character ranges [start, end) of each text that the other lacks, in order."""

    chosen: Spans
    rejected: Spans


def differences(chosen: str, rejected: str) -> Differences:
    """Returns the words in which two texts differ; whitespace alone is no difference."""
    before = _common_start(chosen, rejected)
    after = _common_end(chosen[before:], rejected[before:])
    middles = chosen[before : len(chosen) - after], rejected[before : len(rejected) - after]
    found = _whole(*middles) if max(map(len, middles)) > MAX_MIDDLE else _by_words(*middles)
    return Differences(_shifted(found.chosen, before), _shifted(found.rejected, before))


def _by_words(chosen: str, rejected: str) -> Differences:
    ours = [found.span() for found in WORD.finditer(chosen)]
    theirs = [found.span() for found in WORD.finditer(rejected)]
    words = [chosen[start:end] for start, end in ours]
    others = [rejected[start:end] for start, end in theirs]
    counts = Counter(others)
    if sum(counts[word] for word in words) > MAX_EQUAL_PAIRS:
        return _whole(chosen, rejected)
    changes = [
        change
        for change in SequenceMatcher(None, words, others, autojunk=False).get_opcodes()
        if change[0] != "equal"
    ]
    return Differences(
        tuple((ours[i][0], ours[j - 1][1]) for _, i, j, _, _ in changes if i < j),
        tuple((theirs[i][0], theirs[j - 1][1]) for _, _, _, i, j in changes if i < j),
    )


def _whole(chosen: str, rejected: str) -> Differences:
    return Differences(_stripped(chosen), _stripped(rejected))


def _stripped(text: str) -> Spans:
    start = len(text) - len(text.lstrip())
    end = len(text.rstrip())
    return ((start, end),) if start < end else ()


def _shifted(spans: Spans, by: int) -> Spans:
    return tuple((start + by, end + by) for start, end in spans)


def _common_start(one: str, other: str) -> int:
    """Counts the characters that both begin with, whole words only."""
    lengths = range(1, min(len(one), len(other)) + 1)
    length = bisect_left(lengths, True, key=lambda n: one[:n] != other[:n])
    cuts_a_word = any(len(text) > length and not text[length].isspace() for text in (one, other))
    start = one[:length]
    if not cuts_a_word or not start or start[-1].isspace():
        return length
    return length - len(start.rsplit(maxsplit=1)[-1])


def _common_end(one: str, other: str) -> int:
    """Counts the characters that both end with, whole words only."""
    lengths = range(1, min(len(one), len(other)) + 1)
    length = bisect_left(lengths, True, key=lambda n: one[-n:] != other[-n:])
    cuts_a_word = any(
        len(text) > length and not text[-length - 1].isspace() for text in (one, other)
    )
    end = one[len(one) - length :]
    if not cuts_a_word or not end or end[0].isspace():
        return length
    return length - len(end.split(maxsplit=1)[0])
