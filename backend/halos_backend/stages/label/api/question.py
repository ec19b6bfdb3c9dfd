"""Owns what the judge reads: the template with its placeholders substituted, and what identifies a
question. It is pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from halos_backend.config.api_judge import PLACEHOLDER, ROW, ApiJudge, Comparing
from halos_backend.records import Message, text_of
from halos_backend.stages.label.judge import LabelRow, Unscored

KEY_VERSION = 1
"""Is raised when the same settings and texts begin to make other questions."""
ANSWER_FORMAT = "{answer_format}"
LAST_LINE = "End with one line that is this JSON object and nothing else"
VERDICTS = ("first", "second", "tie")


@dataclass(frozen=True)
class Question:
    """Is what one call asks; equal questions have equal keys, in every round of the run."""

    key: str
    text: str


def pointwise_question(judge: ApiJudge, row: LabelRow) -> Question | Unscored:
    """Returns the question about one completion, or why there is none."""
    keys = ", ".join(f'"{name}": NUMBER' for name in judge.criteria)
    each = "a number" if len(judge.criteria) == 1 else "each a number"
    own = {
        "completion": row.text,
        "score_min": f"{judge.score_min:g}",
        "score_max": f"{judge.score_max:g}",
        "answer_format": f"{LAST_LINE}: {{{keys}}}, {each} from {judge.score_min:g} to"
        f" {judge.score_max:g}.",
    }
    return _question(judge, judge.template, row, own)


def pair_question(
    judge: ApiJudge, compare: Comparing, first: LabelRow, second: LabelRow
) -> Question | Unscored:
    """Returns the question which of two completions of a prompt is better, in this order."""
    own = {
        "first": first.text,
        "second": second.text,
        "answer_format": LAST_LINE + ': {"winner": WHO}, where WHO is "first", "second" or "tie".',
    }
    return _question(judge, compare.template, first, own)


def answer_schema(judge: ApiJudge) -> dict[str, Any]:
    """Returns `response_format` for servers that hold answers to a JSON schema."""
    properties: dict[str, Any] = {name: {"type": "number"} for name in judge.criteria}
    if judge.compare is not None:
        properties = {"winner": {"type": "string", "enum": list(VERDICTS)}}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": schema},
    }


def _question(
    judge: ApiJudge, template: str, row: LabelRow, own: Mapping[str, str]
) -> Question | Unscored:
    """Substitutes all placeholders in one pass: braces in prompts and completions are text."""
    if ANSWER_FORMAT not in template:
        template = f"{template.rstrip()}\n\n{ANSWER_FORMAT}\n"
    values = {
        "prompt": conversation(row.prompt),
        "criteria": "\n".join(f"- {name}: {c.description}" for name, c in judge.criteria.items()),
        **own,
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
