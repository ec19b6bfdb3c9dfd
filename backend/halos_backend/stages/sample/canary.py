"""Writes the round's canary: for some completions, the log-probabilities that the sampler gave its
tokens.

The train stage compares them with the policy that it is about to train.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from halos_backend.errors import CorruptFileError
from halos_backend.records import CanaryRow, encode_row, read_rows
from halos_backend.stages.sample.batches import Row
from halos_backend.stages.sample.engine import Generated, Request
from halos_backend.store.run_dir import AttemptDir

NUM_COMPLETIONS = 2
NUM_TOKENS = 32
"""Is how many tokens of each completion count, from its beginning."""


class Canary:
    """Takes the first completion of some prompts: those taken over from earlier attempts, then new
    ones.

    `taken_over` are ids of completions that are not generated again.
    """

    def __init__(
        self, directory: AttemptDir, earlier: Sequence[AttemptDir], taken_over: Collection[str]
    ) -> None:
        self.path = directory.canary
        kept = {
            row.completion_id: row
            for attempt in earlier
            for row in _read(attempt.canary)
            if row.completion_id in taken_over
        }
        rows = list(kept.values())[:NUM_COMPLETIONS]
        self.path.write_bytes(b"".join(map(encode_row, rows)))
        self._prompts: set[int] = set()
        self._num_left = NUM_COMPLETIONS - len(rows)

    def wants(self, row: Row) -> bool:
        """Says whether this completion is one of them; the first prompts asked for are taken."""
        if row.k != 0:
            return False
        if row.prompt_index not in self._prompts and self._num_left:
            self._prompts.add(row.prompt_index)
            self._num_left -= 1
        return row.prompt_index in self._prompts

    def add(self, completion_id: str, request: Request, generated: Generated) -> None:
        """Writes a completion down whose log-probabilities were asked for."""
        row = CanaryRow(
            completion_id,
            request.prompt_token_ids,
            generated.token_ids[:NUM_TOKENS],
            generated.logps[:NUM_TOKENS],
        )
        with self.path.open("ab") as file:
            file.write(encode_row(row))


def _read(path: Path) -> list[CanaryRow]:
    rows: list[CanaryRow] = []
    with suppress(CorruptFileError, OSError):
        rows.extend(read_rows(path, CanaryRow, torn_tail=True))
    return rows
