"""Owns what the judge reads: the template with its placeholders substituted, and what identifies a
question. It is pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from halos_backend.config.api_judge import PLACEHOLDER, ROW, ApiJudge
from halos_backend.records import Message, text_of
from halos_backend.stages.label.judge import LabelRow, Unscored

KEY_VERSION = 1
"""Is raised when the same settings and texts begin to make other questions."""
ANSWER_FORMAT = "{answer_format}"


@dataclass(frozen=True)
class Question:
    """Is what one call asks; equal questions have equal keys, in every round of the run."""

    key: str
    text: str


def pointwise_question(judge: ApiJudge, row: LabelRow) -> Question | Unscored:
    """Returns the question about one completion, or why there is none.

    All placeholders are substituted in one pass: braces in prompts and completions are text.
    """
    template = judge.template
    if ANSWER_FORMAT not in template:
        template = f"{template.rstrip()}\n\n{ANSWER_FORMAT}\n"
    values = {
        "prompt": conversation(row.prompt),
        "completion": row.text,
        "criteria": "\n".join(f"- {name}: {c.description}" for name, c in judge.criteria.items()),
        "score_min": f"{judge.score_min:g}",
        "score_max": f"{judge.score_max:g}",
        "answer_format": answer_format(judge),
    }
    missing: list[str] = []

    def value_of(found: re.Match[str]) -> str:
        name = found[1]
        if not name.startswith(ROW):
            return values[name]
        column = name.removeprefix(ROW)
        if column not in row.columns:
            missing.append(column)
            return ""
        return column_text(row.columns[column])

    text = PLACEHOLDER.sub(value_of, template)
    if missing:
        return Unscored(f"the prompt's row has no column '{missing[0]}'", is_error=True)
    return Question(_key(judge, text), text)


def answer_format(judge: ApiJudge) -> str:
    """Says to the judge how to write its scores."""
    keys = ", ".join(f'"{name}": NUMBER' for name in judge.criteria)
    each = "a number" if len(judge.criteria) == 1 else "each a number"
    return (
        f"End with one line that is this JSON object and nothing else: {{{keys}}},"
        f" {each} from {judge.score_min:g} to {judge.score_max:g}."
    )


def answer_schema(judge: ApiJudge) -> dict[str, Any]:
    """Returns `response_format` for servers that hold answers to a JSON schema."""
    schema = {
        "type": "object",
        "properties": {name: {"type": "number"} for name in judge.criteria},
        "required": list(judge.criteria),
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": "scores", "strict": True, "schema": schema},
    }


def conversation(prompt: Sequence[Message]) -> str:
    """Writes the prompt for the judge: the text of a single message of the user, else each message
    under its role.
    """
    if len(prompt) == 1 and prompt[0].get("role") == "user":
        return text_of(prompt[0])
    return "\n\n".join(f"{message.get('role')}: {text_of(message)}" for message in prompt)


def column_text(value: Any) -> str:
    """Writes a column's value: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _key(judge: ApiJudge, text: str) -> str:
    """Digests all that an answer depends on, but for what may change between two servers of one
    model: the address, and whether answers are held to a schema.
    """
    asked = [KEY_VERSION, judge.model, judge.temperature, judge.reasoning_effort, text]
    return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()
