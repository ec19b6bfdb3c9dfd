"""Holds one round's completions as numbers: what tables sort and filter by, and where the text is.

About 40 bytes a completion; the rows themselves stay in the file and are decoded when seen.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from threading import Event
from typing import Protocol

import msgspec
from halos_backend.records import BAD_JSON, FinishReason

REPORT_BYTES = 1 << 20
MAX_REASONS = 1000
OTHER_REASON = "another reason; the group's own row has it"


@dataclass(frozen=True, slots=True)
class CompletionRow:
    """This is one completion in a table; `position` and `index` find its text.

    One without a `reward` is not scored yet, or `unscored` says why it never will be.
    """

    round: int
    position: int
    index: int
    prompt_id: str
    reward: float | None
    unscored: str | None
    num_tokens: int
    finish_reason: FinishReason
    times: int = 1
    """So often the group has the same answer, with the same reward, length and end."""


class Names:
    """Keeps text that many rows share as small numbers; for prompt ids and reasons."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._codes: dict[str, int] = {}

    def code(self, text: str) -> int:
        found = self._codes.setdefault(text, len(self.texts))
        if found == len(self.texts):
            self.texts.append(text)
        return found

    def known_code(self, text: str) -> int | None:
        return self._codes.get(text)

    def memory_bytes(self) -> int:
        return self._codes.__sizeof__() + sum(8 + text.__sizeof__() for text in self.texts)

    def reason_code(self, text: str) -> int:
        """Works like `code`, but judges that never say the same twice share one code."""
        is_full = len(self.texts) >= MAX_REASONS and text not in self._codes
        return self.code(OTHER_REASON if is_full else text)


class _Completion(msgspec.Struct):
    completion_id: str
    text: str
    token_ids: msgspec.Raw
    finish_reason: FinishReason
    reward: float | None = None
    unscored: str | None = None


class _Group(msgspec.Struct):
    prompt_id: str
    completions: list[_Completion]


_decoder = msgspec.json.Decoder(_Group)


class RoundIndex:
    """Follows one file of groups; a torn last line is held back, a corrupt one left out and named.

    One thread grows it. What others read only becomes longer.
    """

    def __init__(self, round: int, path: Path, *, prompts: Names, reasons: Names) -> None:
        self.round = round
        self.path = path
        self.num_bytes_read = 0
        self.problem = ""
        self.rewards = array("d")
        """This and the next five have one entry a completion; NaN where there is no value."""
        self.num_tokens = array("I")
        self.truncated = array("B")
        self.ids = array("q")
        """It has a hash of prompt_id and completion_id, by which other files name a completion."""
        self.firsts = array("I")
        """It has the first completion of the group that is the same answer."""
        self.unscored = array("H")
        """It has the code of the reason, from 1 on; 0 where there is none."""
        self.offsets = array("Q")
        """This and the next two have one entry a group: here the place where its line starts."""
        self.first_rows = array("I")
        self.prompt_codes = array("I")
        self.has_alike = False
        """It says whether any group has the same answer twice."""
        self.marks: array[int] | None = None
        """It has what the feedback made of each completion, once somebody has asked for that."""
        self._num_lines = 0
        self._prompts = prompts
        self._reasons = reasons

    def __len__(self) -> int:
        """Counts the completions; the last array that a group is added to decides."""
        return len(self.unscored)

    @property
    def num_groups(self) -> int:
        return len(self.first_rows)

    def grow(self, stop: Event) -> Iterator[int]:
        """Takes in the lines that are new; yields the bytes read since the last time."""
        try:
            file = self.path.open("rb")
        except OSError:
            return
        with file:
            file.seek(self.num_bytes_read)
            reported = self.num_bytes_read
            for line in file:
                if not line.endswith(b"\n") or stop.is_set():
                    break
                self._take(line)
                if self.num_bytes_read - reported >= REPORT_BYTES:
                    yield self.num_bytes_read - reported
                    reported = self.num_bytes_read
            yield self.num_bytes_read - reported

    def row(self, number: int) -> CompletionRow:
        """Returns a completion, counted from 0 in the order of the file. Raises IndexError."""
        reward = self.rewards[number]
        code = self.unscored[number]
        group = self.group_of(number)
        return CompletionRow(
            round=self.round,
            position=self.offsets[group],
            index=number - self.first_rows[group],
            prompt_id=self._prompts.texts[self.prompt_codes[group]],
            reward=None if isnan(reward) else reward,
            unscored=self._reasons.texts[code - 1] if code else None,
            num_tokens=self.num_tokens[number],
            finish_reason="length" if self.truncated[number] else "stop",
            times=self._times(number, group),
        )

    def is_unscored(self, number: int) -> bool:
        """Says whether its judge gave it up; one that still awaits its score is not unscored."""
        return self.unscored[number] > 0

    def group_of(self, number: int) -> int:
        """Returns the group of a completion."""
        return bisect_right(self.first_rows, number) - 1

    def rows_of(self, group: int) -> range:
        """Returns the completions of a group."""
        after = group + 1
        end = self.first_rows[after] if after < len(self.first_rows) else len(self)
        return range(self.first_rows[group], end)

    def memory_bytes(self) -> int:
        arrays = (
            *(self.rewards, self.num_tokens, self.truncated, self.ids, self.firsts, self.unscored),
            *(self.offsets, self.first_rows, self.prompt_codes),
        )
        return sum(column.__sizeof__() for column in arrays)

    def _times(self, number: int, group: int) -> int:
        rows = self.rows_of(group)
        return self.firsts[rows.start : rows.stop].count(self.firsts[number])

    def _take(self, line: bytes) -> None:
        start = self.num_bytes_read
        self.num_bytes_read += len(line)
        self._num_lines += 1
        if not line.strip():
            return
        try:
            group = _decoder.decode(line)
        except BAD_JSON as error:
            self.problem = self.problem or f"{self.path}, line {self._num_lines}: {error}"
            return
        if not group.completions:
            return
        first = len(self)
        lengths = [_length(completion.token_ids) for completion in group.completions]
        for completion, length in zip(group.completions, lengths, strict=True):
            self.rewards.append(nan if completion.reward is None else completion.reward)
            self.num_tokens.append(length)
            self.truncated.append(completion.finish_reason == "length")
            self.ids.append(id_hash(group.prompt_id, completion.completion_id))
        places = first_alike(group.completions, lengths)
        self.has_alike |= len(set(places)) < len(places)
        self.firsts.extend(first + place for place in places)
        self.offsets.append(start)
        self.prompt_codes.append(self._prompts.code(group.prompt_id))
        self.first_rows.append(first)
        codes = [self._reason_code(completion) for completion in group.completions]
        self.unscored.extend(codes)  # at once: another thread sees a whole group or none

    def _reason_code(self, completion: _Completion) -> int:
        if completion.unscored is None:
            return 0
        return self._reasons.reason_code(completion.unscored) + 1


class Answer(Protocol):
    """It is what a completion says, and how that was rewarded and ended."""

    @property
    def text(self) -> str: ...
    @property
    def finish_reason(self) -> FinishReason: ...
    @property
    def reward(self) -> float | None: ...
    @property
    def unscored(self) -> str | None: ...


def first_alike(answers: Sequence[Answer], lengths: Sequence[int]) -> list[int]:
    """Returns for each answer of a group the place of the first that is the same: with the same
    text, number of tokens, reward and end.
    """
    firsts: dict[object, int] = {}
    return [
        firsts.setdefault(
            (answer.text, length, answer.reward, answer.unscored, answer.finish_reason), place
        )
        for place, (answer, length) in enumerate(zip(answers, lengths, strict=True))
    ]


def id_hash(prompt_id: str, completion_id: str) -> int:
    """Returns the same for the same completion as long as the program runs."""
    return hash((prompt_id, completion_id))


def _length(ids: msgspec.Raw) -> int:
    """Counts the entries of a JSON array of numbers."""
    content = bytes(ids)
    return content.count(b",") + 1 if content.strip(b"[] \t") else 0
