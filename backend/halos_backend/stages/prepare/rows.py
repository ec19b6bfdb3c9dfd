"""Turns a source row into a conversation and the columns that go with it, by the column mapping."""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from halos_backend.config.schema import PromptsSettings
from halos_backend.errors import PromptsError
from halos_backend.records import Message, Tools, part_texts
from halos_backend.stages.prepare.source import Row, is_columnar

HALOS_TYPES = frozenset({"sample", "binary_feedback", "pairwise_feedback", "scalar_feedback"})
"""Lists the types in rows of HALOs' arrays, of which several have one `prompt_id`."""

TOOLS = "tools"

PATH_PART = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True)
class SourcePrompt:
    """Is a prompt before it has token ids. `where` names its row in messages."""

    where: str
    prompt_id: str
    messages: tuple[Message, ...]
    columns: dict[str, Any]
    tools: Tools


def source_prompts(
    rows: Iterable[tuple[str, Row]], prompts: PromptsSettings
) -> Iterator[SourcePrompt]:
    """Yields the prompts of the rows; HALOs samples and feedback, several to a prompt, count once.

    Raises PromptsError for a missing column, a row without a prompt, an id that occurs twice.
    """
    seen: dict[str, str] = {}
    for number, (where, row) in enumerate(rows):
        is_halos = row.get("type") in HALOS_TYPES and "prompt_id" in row
        prompt_id = _prompt_id(where, row, number, prompts, is_halos=is_halos)
        if prompt_id in seen:
            if is_halos:
                continue
            raise PromptsError(f"{where}: the id {prompt_id!r} is that of {seen[prompt_id]} too")
        seen[prompt_id] = where
        prompt = look_up(where, row, prompts.prompt, setting="prompts.prompt")
        messages = _messages(where, prompt, prompts)
        tools = _tools(where, row, prompts)
        source = SourcePrompt(where, prompt_id, messages, _columns(row, prompts), tools)
        _check_text(source)
        yield source


def _columns(row: Row, prompts: PromptsSettings) -> dict[str, Any]:
    """Returns the other columns; one that is only reached into stays, it may hold the
    answer too.
    """
    used = (prompts.prompt, prompts.prompt_id)
    return {name: plain(value) for name, value in row.items() if name not in used}


def non_finite_columns(source: SourcePrompt) -> list[str]:
    """Returns the columns with a number that JSON does not have: NaN or infinity, itself
    or within.
    """
    return [name for name, value in source.columns.items() if _holds_non_finite(value)]


def _holds_non_finite(value: Any) -> bool:
    match value:
        case float():
            return not math.isfinite(value)
        case list():
            return any(map(_holds_non_finite, value))
        case dict():
            return any(map(_holds_non_finite, value.values()))
    return False


def _check_text(source: SourcePrompt) -> None:
    try:
        msgspec.json.encode((source.prompt_id, source.messages, source.columns, source.tools))
    except UnicodeEncodeError as error:
        raise PromptsError(
            f"{source.where}: {error.object[error.start]!a} is half a character (a text cut in the"
            " middle of an emoji?)",
            fix="mend the row or take it out",
        ) from error


def path_parts(path: str) -> list[str | int]:
    """Splits `turns[0].text` into ["turns", 0, "text"]."""
    return [int(index) if index else name for name, index in PATH_PART.findall(path)]


def look_up(where: str, row: Row, path: str, *, setting: str) -> Any:
    """Returns the value at a column path, which `setting` names. A column may have the whole path
    for its name. Raises PromptsError where there is none.
    """
    if path in row:
        return row[path]
    value: Any = row
    for part in path_parts(path):
        if isinstance(value, str):  # its characters are no columns
            raise _missing(where, row, path, setting)
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            raise _missing(where, row, path, setting) from None
    return value


def plain(value: Any) -> Any:
    """Returns a value as JSON has it; dates and the like become text."""
    return msgspec.to_builtins(value, str_keys=True, enc_hook=str)


def _missing(where: str, row: Row, path: str, setting: str) -> PromptsError:
    near = difflib.get_close_matches(path, row, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    if len(row) == 1 and (mark := next((m for m in ";\t|" if m in next(iter(row))), None)):
        hint = f"are its columns divided by {mark!r}? Write commas; "
    columns = ", ".join(repr(name) for name in list(row)[:20])
    return PromptsError(
        f"{where}: there is no column {path!r}, which {setting} names",
        fix=f"{hint}its columns are {columns}",
    )


def _prompt_id(
    where: str, row: Row, number: int, prompts: PromptsSettings, *, is_halos: bool
) -> str:
    if prompts.prompt_id is None and not is_halos:
        return str(number)
    column = prompts.prompt_id or "prompt_id"
    prompt_id = look_up(where, row, column, setting="prompts.prompt_id")
    is_number = isinstance(prompt_id, int | float) and math.isfinite(prompt_id)
    if not is_number and (not isinstance(prompt_id, str) or prompt_id == ""):
        raise PromptsError(
            f"{where}: the id in {column!r} is {prompt_id!r}",
            fix="every prompt must have text or a"
            " number there, or leave prompts.prompt_id out to number the rows",
        )
    return str(prompt_id)


def _messages(where: str, value: Any, prompts: PromptsSettings) -> tuple[Message, ...]:
    if isinstance(value, str):
        messages: list[Message] = [{"role": "user", "content": value}]
    elif isinstance(value, list) and value:
        has_fillers = is_columnar(prompts)
        messages = [_message(where, item, has_fillers=has_fillers) for item in value]
    else:
        raise PromptsError(
            f"{where}: {prompts.prompt!r} is {type(value).__name__}, not text or a list of messages"
        )
    if not any(part_texts(message).strip() for message in messages):
        raise PromptsError(f"{where}: {prompts.prompt!r} is empty")
    if messages[-1]["role"] == "assistant":
        raise PromptsError(
            f"{where}: the conversation ends with the assistant's turn, so there is nothing to"
            " complete",
            fix="map the prompt without it",
        )
    if prompts.system_prompt is not None and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": prompts.system_prompt})
    return tuple(messages)


def _message(where: str, item: Any, *, has_fillers: bool) -> Message:
    """Returns every field of a message that has a value.

    `has_fillers`: all rows have all fields there, so that null inside one says that it is absent.
    """
    if not isinstance(item, dict) or not isinstance(item.get("role"), str):
        raise PromptsError(f"{where}: a message must have text in 'role' and in 'content'")
    fields: Message = plain(_without_nulls(item) if has_fillers else item)
    message = {
        name: value for name, value in fields.items() if value is not None or name == "content"
    }
    content = message.get("content")
    if isinstance(content, list):
        for part in content:
            _check_part(where, part)
    elif not isinstance(content, str) and not (content is None and message.get("tool_calls")):
        raise PromptsError(f"{where}: a message must have text in 'role' and in 'content'")
    return message


def _check_part(where: str, part: Any) -> None:
    match part:
        case {"type": "text", "text": str()}:
            return
        case {"type": str(kind)}:
            raise PromptsError(
                f"{where}: a message has a part of type {kind!r}, and text alone is sampled from",
                fix="take it out, or leave the row out",
            )
    raise PromptsError(
        f"{where}: a part of a message must have 'type' and 'text', as in"
        ' {"type": "text", "text": "..."}',
        fix="mend the row",
    )


def _tools(where: str, row: Row, prompts: PromptsSettings) -> Tools:
    """Returns the column `tools`, as datasets of conversations with tools have it: a list, or its
    JSON.
    """
    found = None if prompts.prompt == TOOLS else row.get(TOOLS)
    if isinstance(found, str):
        with contextlib.suppress(ValueError):
            found = json.loads(found) if found.strip() else None
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(tool, dict) for tool in found):
        raise PromptsError(
            f"{where}: the column {TOOLS!r} is no list of JSON schemas, as chat templates take",
            fix="rename it if it is something else",
        )
    return tuple(plain(_without_nulls(found) if is_columnar(prompts) else found))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value
