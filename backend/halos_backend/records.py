"""Owns the rows of the project's data files (JSON Lines), and how they are read and written.

A prompt is sampled into a group; a judge scores the group; feedback is made of scored groups.
Training reads `token_ids`, never text, so that sampling, scoring and training see the same thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from halos_backend.errors import CorruptFileError

FinishReason = Literal["stop", "length"]
"""Says how a completion ended: `stop` is by itself (end token or stop string), `length`
is cut off.
"""

Message = dict[str, Any]
"""Is one turn of a conversation as its source has it, with every field that a template may read:
`role`, `content` (text, or a list of parts that are text), `name`, `tool_calls`, `tool_call_id`,
...
"""

Tools = tuple[dict[str, Any], ...]
"""Holds the JSON schemas of what may be called in a conversation."""


class Prompt(msgspec.Struct, frozen=True, omit_defaults=True):
    """Is one row of `prompts.jsonl`: a conversation that awaits a completion.

    `token_ids` is the prompt under the policy's chat template with the generation prompt.
    `columns` are the source row's other columns, for reward functions; `tools` those that the
    template was given.
    """

    prompt_id: str
    prompt: tuple[Message, ...]
    token_ids: tuple[int, ...]
    columns: dict[str, Any] = {}
    tools: Tools = ()


class Completion(msgspec.Struct, frozen=True, omit_defaults=True):
    """Is one sampled completion; it is scored when `reward` is set, and given up when `unscored`
    says why.

    `token_ids` are exactly the sampled ids, the end token included where the policy sampled it;
    `text` leaves out special tokens and the stop string. Of a scored group `reward` is the judge's
    own, and `penalty` what training sees less of it; in feedback `reward` is what training sees.
    `components` are the scores that a reward is made of; `beats` names completions of the group
    than which a judge that compares found it better. `temperature` is there where the completions
    of a group have several; `logps`, the policy's own of the tokens before whatever changes the
    draw, where the loss asks for the sampler's.
    """

    completion_id: str
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    reward: float | None = None
    unscored: str | None = None
    penalty: float | None = None
    components: dict[str, float] = {}
    beats: tuple[str, ...] = ()
    temperature: float | None = None
    logps: tuple[float, ...] = ()


class Group(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="scalar"):
    """Holds all completions of one prompt in one round; with rewards it is `scalar` feedback."""

    prompt_id: str
    prompt: tuple[Message, ...]
    prompt_token_ids: tuple[int, ...]
    policy_version: int
    completions: tuple[Completion, ...]
    columns: dict[str, Any] = {}
    tools: Tools = ()


class CanaryRow(msgspec.Struct, frozen=True):
    """Is a sampled completion with the log-probabilities that its sampler gave its tokens.

    `prompt_token_ids` are what was continued, a control text included. `token_ids` and `logps` are
    of the completion's beginning.
    """

    completion_id: str
    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logps: tuple[float, ...]


class PreferencePair(
    msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="pairwise"
):
    """Is `pairwise` feedback: says which of two completions of one prompt is better."""

    prompt_id: str
    prompt: tuple[Message, ...]
    prompt_token_ids: tuple[int, ...]
    chosen: Completion
    rejected: Completion
    reward_chosen: float
    reward_rejected: float
    tools: Tools = ()


class UnpairedFeedback(
    msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="binary"
):
    """Is `binary` feedback: a completion and whether it is desirable."""

    prompt_id: str
    prompt: tuple[Message, ...]
    prompt_token_ids: tuple[int, ...]
    completion: Completion
    is_desirable: bool
    reward: float
    tools: Tools = ()


BAD_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Lists what msgspec raises for bytes that are not the JSON they should be."""

Feedback = Group | PreferencePair | UnpairedFeedback

Row = TypeVar("Row")


def text_of(message: Message) -> str:
    """Returns what a message says, for a person: its text, then each other field by its name."""
    said = [part_texts(message)] if message.get("content") else []
    for name, value in message.items():
        if name not in ("role", "content") and value is not None:
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            said.append(f"{name}: {text}")
    return "\n".join(said)


def is_plain(message: Message) -> bool:
    """Says whether a message is a role and a text, and nothing else."""
    return message.keys() == {"role", "content"} and isinstance(message["content"], str)


def part_texts(message: Message) -> str:
    """Returns the text of a message's content, a line break between its parts; empty where it has
    none.
    """
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content)
    return str(content or "")


def encode_row(row: msgspec.Struct) -> bytes:
    """Returns the row as one JSON line, newline included."""
    return msgspec.json.encode(row) + b"\n"


def write_rows(path: Path, rows: Iterable[msgspec.Struct]) -> int:
    """Writes a whole JSON Lines file; returns the number of rows. Flushing to disk is `DONE`'s."""
    count = 0
    with path.open("wb") as file:
        for row in rows:
            file.write(encode_row(row))
            count += 1
    return count


def read_rows(path: Path, row_type: type[Row] | Any, *, torn_tail: bool = False) -> Iterator[Any]:
    """Yields the rows of a JSON Lines file as `row_type`.

    `torn_tail` holds back a last line without its newline (a file that is or was being written).
    Raises CorruptFileError naming file and line.
    """
    decoder = msgspec.json.Decoder(row_type)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n") and torn_tail:
                return
            if not line.strip():
                continue
            try:
                yield decoder.decode(line)
            except BAD_JSON as error:
                raise CorruptFileError(f"{path}, line {number}: {error}") from error
