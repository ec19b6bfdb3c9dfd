"""Owns `rewards.jsonl`: rewards as they are computed, and what a later attempt may take over.

The first line is a digest of everything the rewards depend on: the completions' bytes and the
judge's identity. Rewards under another digest are never mixed in.
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
from halos_backend.records import encode_row, read_rows
from halos_backend.stages.label.judge import LabelRow, Unscored, Verdict
from halos_backend.store.manifest import sha256_of


class LedgerHeader(msgspec.Struct, frozen=True, tag_field="type", tag="header"):
    """What the rewards below belong to."""

    digest: str
    schema_version: int = SCHEMA_VERSION


class LedgerRow(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="reward"):
    """One completion's reward, or why it has none."""

    completion_id: str
    prompt_id: str
    reward: float | None = None
    unscored: str | None = None


def ledger_digest(completions: Path, judge_identity: str) -> str:
    return hashlib.sha256(f"{sha256_of(completions)} {judge_identity}".encode()).hexdigest()


class LedgerWriter:
    """Appends rewards; once `append` returns the kernel has the row, and a kill cannot lose it."""

    def __init__(self, path: Path, digest: str) -> None:
        self._file = path.open("wb", buffering=0)
        self._file.write(encode_row(LedgerHeader(digest)))

    def append(self, row: LabelRow, verdict: Verdict) -> None:
        match verdict:
            case Unscored(reason=reason):
                entry = LedgerRow(row.completion_id, row.prompt_id, unscored=reason)
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


def known_rewards(
    ledgers: Iterable[Path], digest: str, rows: Sequence[LabelRow]
) -> dict[int, float]:
    """Rewards of earlier attempts by position in `rows`; what was unscored is judged again."""
    position = {(row.prompt_id, row.completion_id): index for index, row in enumerate(rows)}
    known: dict[int, float] = {}
    for ledger in ledgers:
        for entry in _read_ledger(ledger, digest):
            index = position.get((entry.prompt_id, entry.completion_id))
            if index is not None and entry.reward is not None:
                known.setdefault(index, entry.reward)
    return known


def _read_ledger(path: Path, digest: str) -> list[LedgerRow]:
    """The rows that can be read: a crash of the machine may have torn the file anywhere."""
    entries: list[LedgerRow] = []
    with contextlib.suppress(FileNotFoundError, CorruptFileError):
        lines = read_rows(path, LedgerHeader | LedgerRow, torn_tail=True)
        header = next(lines, None)
        if not isinstance(header, LedgerHeader) or header.digest != digest:
            return []
        entries.extend(entry for entry in lines if isinstance(entry, LedgerRow))
    return entries
