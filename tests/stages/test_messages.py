"""Fields of messages on their way from the prompts file to the template, the judge and exports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow
import pytest
from halos_backend.findings import InputsError
from halos_backend.records import Group, Prompt, text_of
from halos_backend.stages.chat import render
from halos_backend.stages.label.conversations import tokenize_conversations
from halos_backend.stages.label.judge import label_rows
from halos_backend.stages.models import read_tokenizer
from pyarrow import parquet

from tests.support.label_fixtures import (
    completion,
    function_judge,
    label,
    make_attempt,
    reasons_of,
    rewards_of,
    save_tokenizer,
)
from tests.support.prepare_fixtures import PreparePlace

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "w1", "name": "ann"},
    {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "w2 w3"},
    {"role": "tool", "content": "w4", "tool_call_id": "c1", "name": "add", "mine": {"x": [1]}},
]
TEMPLATE = (
    "{% if tools %}[{{ tools | tojson }}]{% endif %}"
    "{% for m in messages %}<{{ m.role }}|{{ m.name }}|{{ m.tool_call_id }}>"
    "{{ m.reasoning_content }}{{ m.content if m.content is string }}"
    "{% for call in m.tool_calls or [] %}{{ call.function.name }}"
    "({{ call.function.arguments | tojson }}){% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
PARTS = [{"type": "text", "text": "w1"}, {"type": "text", "text": "w2"}]
ITERATES = (
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}({{ part.text }}){% endfor %}{% endif %}{% endfor %}"
)
PLAIN = "{% for m in messages %}{{ m.content }};{% endfor %}"


@pytest.fixture
def place(tmp_path: Path) -> PreparePlace:
    return PreparePlace(tmp_path)


def tokenizer_of(path: Path, template: str) -> Any:
    save_tokenizer(path, template=template)
    return read_tokenizer(str(path), trust_remote_code=False)


def prepared(place: PreparePlace, source: Path) -> Prompt:
    template = place.source("template.jinja", TEMPLATE)
    place.set_context(1024)
    (prompt,) = place.prepare(source, policy={"chat_template": str(template)})
    return prompt


def test_every_field_reaches_the_frozen_prompt_and_its_template(place: PreparePlace) -> None:
    prompt = prepared(place, place.json_lines([{"prompt": TURNS, "tools": [TOOL]}]))
    assert list(prompt.prompt) == TURNS
    assert (prompt.tools, prompt.columns) == ((TOOL,), {"tools": [TOOL]})
    tokenizer = read_tokenizer(str(place.policy), trust_remote_code=False)
    tokenizer.chat_template = TEMPLATE
    raw = tokenizer.apply_chat_template(
        TURNS, tools=[TOOL], tokenize=False, add_generation_prompt=True
    )
    assert "add" in raw
    assert list(prompt.token_ids) == tokenizer(raw, add_special_tokens=False)["input_ids"]
    assert raw == render(tokenizer, TURNS, tools=(TOOL,), add_generation_prompt=True)


def test_tools_may_be_json_text_and_are_refused_where_they_are_something_else(
    place: PreparePlace,
) -> None:
    prompt = prepared(place, place.json_lines([{"prompt": "w", "tools": json.dumps([TOOL])}]))
    assert prompt.tools == (TOOL,)
    rows = [{"prompt": "w", "tools": None}, {"prompt": "w", "tools": ["hammer"]}]
    with pytest.raises(InputsError, match=r"row 2: the column 'tools' is no list of JSON schemas"):
        prepared(place, place.json_lines(rows))


def test_null_in_a_table_of_columns_is_a_field_that_a_message_has_not(place: PreparePlace) -> None:
    """Arrow gives each message the fields of all; JSON has null where somebody wrote it."""
    path = place.path / "prompts.parquet"
    turns = [TURNS[0], {**TURNS[1], "content": ""}, {**TURNS[2], "mine": None}]
    parquet.write_table(pyarrow.Table.from_pylist([{"prompt": turns}]), path)
    assert list(prepared(place, path).prompt) == [
        TURNS[0],
        {**TURNS[1], "content": ""},
        {name: value for name, value in TURNS[2].items() if name != "mine"},
    ]
    call = {"function": {"name": "add", "arguments": {"a": None}}}
    turns = [{"role": "assistant", "content": "w", "tool_calls": [call], "name": None}, TURNS[0]]
    first, _ = prepared(place, place.json_lines([{"prompt": turns}])).prompt
    assert first == {"role": "assistant", "content": "w", "tool_calls": [call]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([*PARTS, {"type": "image_url", "image_url": "x.png"}], "a part of type 'image_url', and"),
        ([{"type": "image"}], "a part of type 'image', and text alone is sampled from"),
        (["w1"], "must have 'type' and 'text'"),
        ([{"text": "w1"}], "must have 'type' and 'text'"),
        (None, "must have text in 'role' and in 'content'"),
        (3, "must have text in 'role' and in 'content'"),
        ([{"type": "text", "text": " "}], "'prompt' is empty"),
    ],
)
def test_content_that_is_no_text_is_refused_by_its_row(
    place: PreparePlace, content: Any, reason: str
) -> None:
    rows = [{"prompt": "w1"}, {"prompt": [{"role": "user", "content": content}]}]
    with pytest.raises(InputsError) as raised:
        place.prepare(place.json_lines(rows))
    assert "prompts.jsonl, row 2: " in str(raised.value)
    assert reason in str(raised.value)


@pytest.mark.parametrize(("template", "said"), [(ITERATES, "(w1)(w2)w0"), (PLAIN, "w1\nw2;w0;")])
def test_parts_are_joined_for_templates_that_read_none(
    tmp_path: Path, template: str, said: str
) -> None:
    tokenizer = tokenizer_of(tmp_path, template)
    turns = [{"role": "user", "content": PARTS}, {"role": "user", "content": "w0"}]
    assert render(tokenizer, turns, add_generation_prompt=False) == said


def group_of_turns() -> Group:
    return Group(
        prompt_id="p",
        prompt=tuple(TURNS),
        prompt_token_ids=(1,),
        policy_version=0,
        completions=(completion("c", "w5"),),
        tools=(TOOL,),
    )


def test_a_function_sees_whole_messages(tmp_path: Path) -> None:
    (tmp_path / "turns.json").write_text(json.dumps(TURNS))
    source = (
        "import json\ndef judge(prompt, completion, row):\n"
        "    return prompt == json.load(open('turns.json'))\n"
    )
    (tmp_path / "my_judge.py").write_text(source)
    judge = function_judge(tmp_path / "my_judge.py")
    path = make_attempt(tmp_path / "attempt", [group_of_turns()], judge)
    label(path)
    assert rewards_of(path) == [1.0], reasons_of(path)


def test_a_reward_models_template_sees_whole_messages_and_tools(tmp_path: Path) -> None:
    template = TEMPLATE.replace("<", " <").replace(">", "> ")
    tokenizer = tokenizer_of(tmp_path, template)
    (found,) = tokenize_conversations(tokenizer, label_rows([group_of_turns()]), max_tokens=1000)
    raw = tokenizer.apply_chat_template(
        [*TURNS, {"role": "assistant", "content": "w5"}], tools=[TOOL], tokenize=False
    )
    assert "add" in raw
    assert found == tokenizer(raw, add_special_tokens=False)["input_ids"]


def test_rows_of_earlier_versions_are_read_and_written_as_they_were() -> None:
    line = b'{"prompt_id":"p","prompt":[{"role":"user","content":"w"}],"token_ids":[1]}'
    row = msgspec.json.decode(line, type=Prompt)
    assert row == Prompt("p", ({"role": "user", "content": "w"},), (1,))
    assert msgspec.json.encode(row) == line


def test_a_person_sees_what_a_message_says_besides_its_text() -> None:
    assert [text_of(turn).splitlines()[0] for turn in TURNS] == [
        "w1",
        'tool_calls: [{"id":"c1",'
        + '"type":"function","function":{"name":"add","arguments":{"a":1}}}]',
        "w4",
    ]
    assert text_of({"role": "user", "content": PARTS}) == "w1\nw2"
