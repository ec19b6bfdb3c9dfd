"""Owns `rewards.jsonl`: rewards as they are computed, and what a later attempt may take over.

Before the rewards of each block stands a digest of everything they depend on: the block's groups
and the judge's identity. Rewards under another digest are never mixed in.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from halos_backend import SCHEMA_VERSION
from halos_backend.errors import CorruptFileError
from halos_backend.records import Group, encode_row, read_rows
from halos_backend.stages.label.judge import LabelRow, Outcome, Unscored, Weighed


class LedgerHeader(msgspec.Struct, frozen=True, tag_field="type", tag="header"):
    """Says what the rewards below belong to, up to the next header."""

    digest: str
    schema_version: int = SCHEMA_VERSION


class LedgerRow(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="reward"):
    """Is one completion's reward, or why it has none."""

    completion_id: str
    prompt_id: str
    reward: float | None = None
    unscored: str | None = None


def block_digest(block: Iterable[Group], judge_identity: str) -> str:
    digest = hashlib.sha256(judge_identity.encode())
    for group in block:
        digest.update(encode_row(group))
    return digest.hexdigest()


class LedgerWriter:
    """Appends rewards; once `append` returns the kernel has the row, and a kill cannot lose it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)

    def begin(self, digest: str) -> None:
        """Writes that the rewards that follow belong to this digest."""
        self._file.write(encode_row(LedgerHeader(digest)))

    def append(self, row: LabelRow, reward: Outcome) -> None:
        match reward:
            case Unscored(reason=reason):
                entry = LedgerRow(row.completion_id, row.prompt_id, unscored=reason)
            case Weighed(reward=mean):
                entry = LedgerRow(row.completion_id, row.prompt_id, reward=mean)
            case reward:
                entry = LedgerRow(row.completion_id, row.prompt_id, reward=reward)
        self._file.write(encode_row(entry))

    def __enter__(self) -> LedgerWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


class KnownRewards:
    """Holds what earlier attempts wrote down; what was unscored is judged again."""

    def __init__(self, ledgers: Iterable[Path]) -> None:
        self._rewards: dict[str, dict[tuple[str, str], float]] = {}
        for ledger in ledgers:
            self._read(ledger)

    def of(self, digest: str, rows: Sequence[LabelRow]) -> dict[int, float]:
        """Returns rewards by position in `rows`, which are those of the block of that digest."""
        known = self._rewards.get(digest, {})
        named = enumerate((row.prompt_id, row.completion_id) for row in rows)
        return {index: known[name] for index, name in named if name in known}

    def _read(self, path: Path) -> None:
        """Reads the rows that can be read: a crash of the machine may have torn the file
        anywhere.
        """
        rewards: dict[tuple[str, str], float] = {}
        with contextlib.suppress(FileNotFoundError, CorruptFileError):
            for entry in read_rows(path, LedgerHeader | LedgerRow, torn_tail=True):
                if isinstance(entry, LedgerHeader):
                    rewards = self._rewards.setdefault(entry.digest, {})
                elif entry.reward is not None:
                    rewards.setdefault((entry.prompt_id, entry.completion_id), entry.reward)
