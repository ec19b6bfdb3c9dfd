"""Owns `judge_answers.jsonl`: every answer that a judge behind an API gave in the run, by question.

An answer is written down before it is used, and synced to the disk, since it cost money. So no
question is asked twice: not by a second attempt, nor in another round.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from halos_backend.errors import StageError
from halos_backend.records import BAD_JSON, encode_row


class PaidAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Is one answer. `key` is its question's; `max_tokens` is the limit it had.

    Its tokens are as the server counted them; where it did not, they are the most that they can be,
    an estimate. The cost is by the prices of its time; None without prices.
    """

    key: str
    text: str
    round: int
    is_cut_off: bool = False
    max_tokens: int | None = None
    refusal: str | None = None
    num_prompt_tokens: int
    num_answer_tokens: int
    is_estimate: bool = False
    cost: float | None = None


@dataclass
class Spent:
    """Sums up answers; `cost` is of those that had a price."""

    num_answers: int = 0
    num_prompt_tokens: int = 0
    num_answer_tokens: int = 0
    cost: float = 0.0

    def add(self, answer: PaidAnswer) -> None:
        self.num_answers += 1
        self.num_prompt_tokens += answer.num_prompt_tokens
        self.num_answer_tokens += answer.num_answer_tokens
        self.cost += answer.cost or 0.0

    @property
    def num_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_answer_tokens


class PaidAnswers:
    """Holds all answers of the run, and appends new ones. Raises StageError where another process
    does.
    """

    def __init__(self, path: Path) -> None:
        self.num_damaged = 0
        self.num_estimates = 0
        self.run_spent = Spent()
        self._round_spent: dict[int, Spent] = {}
        self._file = path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise StageError(f"{path}: another process of the run asks the judge") from error
        os.fchmod(self._file.fileno(), 0o600)
        self._answers: dict[str, PaidAnswer] = {}
        self._read(path)

    def of(self, key: str, *, max_tokens: int | None) -> PaidAnswer | None:
        """Returns the answer to a question; None where there is none, or one that was cut off where
        more tokens are allowed now.
        """
        answer = self._answers.get(key)
        if answer is None or not answer.is_cut_off or answer.max_tokens is None:
            return answer
        has_more_room = max_tokens is None or max_tokens > answer.max_tokens
        return None if has_more_room else answer

    def append(self, answer: PaidAnswer) -> None:
        """Writes an answer down; once this returns neither a kill nor a crash loses it."""
        self._file.write(encode_row(answer))
        os.fdatasync(self._file.fileno())
        self._take(answer)

    def spent_in(self, round: int) -> Spent:
        """Returns what the answers of a round took, those of all its attempts."""
        return self._round_spent.setdefault(round, Spent())

    def close(self) -> None:
        self._file.close()

    def _take(self, answer: PaidAnswer) -> None:
        self._answers[answer.key] = answer
        self.num_estimates += answer.is_estimate
        self.run_spent.add(answer)
        self.spent_in(answer.round).add(answer)

    def _read(self, path: Path) -> None:
        """Reads what can be read, and ends a line that a crash of the machine has torn."""
        decoder = msgspec.json.Decoder(PaidAnswer)
        line = b"\n"
        with path.open("rb") as file:
            for line in file:
                try:
                    answer = decoder.decode(line)
                except BAD_JSON:
                    self.num_damaged += bool(line.strip())
                else:
                    self._take(answer)
        if not line.endswith(b"\n"):
            self._file.write(b"\n")
