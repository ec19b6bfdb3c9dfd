"""Freezing prompts: every format, the column mapping, ids, lengths, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from halos_backend.client.start import read_prepared
from halos_backend.findings import InputsError
from halos_backend.records import Prompt, read_rows
from pyarrow import parquet

from tests.support.place import make_tokenizer
from tests.support.prepare_fixtures import ROWS, PreparePlace, texts

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="no shared/data beside the checkout")


@pytest.fixture
def place(tmp_path: Path) -> PreparePlace:
    return PreparePlace(tmp_path)


def as_json(place: PreparePlace) -> Path:
    return place.source("prompts.json", json.dumps(ROWS, indent=1))


def as_csv(place: PreparePlace) -> Path:
    return place.source("prompts.csv", "prompt,answer\nsay a,a\nsay b,b\n")


def as_csv_of_a_spreadsheet(place: PreparePlace) -> Path:
    return place.source("prompts.csv", '\ufeffprompt,answer\r\n"say a",a\r\n"say b",b\r\n')


def as_parquet(place: PreparePlace) -> Path:
    parquet.write_table(pa.Table.from_pylist(ROWS), place.path / "prompts.parquet")
    return place.path / "prompts.parquet"


def as_json_lines_with_gaps(place: PreparePlace) -> Path:
    return place.source("p.jsonl", "\n" + "\n\n".join(json.dumps(row) for row in ROWS))


@pytest.mark.parametrize(
    "write",
    [
        as_json,
        lambda place: place.json_lines(ROWS),
        as_json_lines_with_gaps,
        as_csv,
        as_csv_of_a_spreadsheet,
        as_parquet,
    ],
    ids=["json", "jsonl", "jsonl with gaps", "csv", "csv with BOM", "parquet"],
)
def test_every_format_gives_the_same_prompts(place: PreparePlace, write: Any) -> None:
    prompts = place.prepare(write(place))
    assert [p.prompt_id for p in prompts] == ["0", "1"]
    assert [p.prompt for p in prompts] == [
        ({"role": "user", "content": "say a"},),
        ({"role": "user", "content": "say b"},),
    ]
    assert [p.columns for p in prompts] == [{"answer": "a"}, {"answer": "b"}]
    # <s> s a y space a </s> <s>: letters are 3 to 28, the space 29
    assert prompts[0].token_ids == (1, 21, 3, 27, 29, 3, 2, 1)
    assert place.prepared["num_prompts"] == 2
    assert place.prepared["num_too_long"] == 0


def test_an_ending_in_capitals_is_the_same_ending(place: PreparePlace) -> None:
    assert texts(place.prepare(place.json_lines(ROWS, "P.JSONL"))) == ["say a", "say b"]


def test_rows_of_a_dataset_of_the_hub_are_prompts(
    place: PreparePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load_dataset(*names: str, split: str) -> datasets.Dataset:
        asked.append((*names, split))
        message = [{"role": "user", "content": "say a"}]
        return datasets.Dataset.from_list([{"chat": message, "n": 3}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    (prompt,) = place.prepare(
        "someone/prompts", prompts={"prompt": "chat", "subset": "easy", "split": "dev"}
    )
    assert asked == [("someone/prompts", "easy", "dev")]
    assert prompt.prompt == ({"role": "user", "content": "say a"},)
    assert prompt.columns == {"n": 3}


@pytest.mark.parametrize(
    "row_type", ["sample", "binary_feedback", "pairwise_feedback", "scalar_feedback"]
)
def test_rows_of_a_halos_array_with_one_prompt_are_one_prompt(
    place: PreparePlace, row_type: str
) -> None:
    rows = [
        {
            "type": row_type,
            "prompt_id": number // 3,
            "prompt": [{"role": "user", "content": f"say {'ab'[number // 3]}"}],
            "output": [{"role": "assistant", "content": str(number)}],
        }
        for number in range(6)
    ]
    prompts = place.prepare(place.source("samples.json", json.dumps(rows)))
    assert [p.prompt_id for p in prompts] == ["0", "1"]
    assert texts(prompts) == ["say a", "say b"]


@pytest.mark.parametrize(
    ("path", "row", "columns"),
    [
        ("question", {"question": "x", "answer": "y"}, {"answer": "y"}),
        ("turns[0]", {"turns": ["x", "z"], "n": 1}, {"turns": ["x", "z"], "n": 1}),
        ("a.b", {"a": {"b": "x", "c": "y"}}, {"a": {"b": "x", "c": "y"}}),
        ("a.b", {"a.b": "x", "a": {"b": "z"}}, {"a": {"b": "z"}}),
        ("a[1].t", {"a": [{}, {"t": "x"}]}, {"a": [{}, {"t": "x"}]}),
    ],
)
def test_column_mapping(
    place: PreparePlace, path: str, row: dict[str, Any], columns: dict[str, Any]
) -> None:
    prompts = place.prepare(place.json_lines([row]), prompts={"prompt": path})
    assert texts(prompts) == ["x"]
    assert prompts[0].columns == columns


def test_a_list_of_messages_is_the_conversation(place: PreparePlace) -> None:
    turns = [("system", "be kind"), ("user", "hi"), ("assistant", "yes"), ("user", "go")]
    row = {"prompt": [{"role": role, "content": content} for role, content in turns]}
    (prompt,) = place.prepare(place.json_lines([row]))
    assert prompt.prompt == tuple({"role": role, "content": content} for role, content in turns)


def test_system_prompt_goes_before_prompts_that_have_none(place: PreparePlace) -> None:
    own = [{"role": "system", "content": "own"}, {"role": "user", "content": "hi"}]
    rows = [{"prompt": "hi"}, {"prompt": own}]
    prompts = place.prepare(place.json_lines(rows), prompts={"system_prompt": "ours"})
    assert [p.prompt[0] for p in prompts] == [
        {"role": "system", "content": "ours"},
        {"role": "system", "content": "own"},
    ]
    assert [len(p.prompt) for p in prompts] == [2, 2]


def test_ids_come_from_their_column(place: PreparePlace) -> None:
    rows = [{"prompt": "a", "key": 17}, {"prompt": "b", "key": "x-1"}]
    prompts = place.prepare(place.json_lines(rows), prompts={"prompt_id": "key"})
    assert [p.prompt_id for p in prompts] == ["17", "x-1"]


def test_token_ids_are_those_of_the_plain_chat_template(place: PreparePlace) -> None:
    place.set_context(400)
    numbers = [1, 40, 7, 300, 2] * 120  # more than a chunk of 512
    contents = ["abc xyz" * (1 + number // 7) for number in numbers]
    prompts = place.prepare(place.json_lines([{"prompt": text} for text in contents]))
    tokenizer = make_tokenizer()
    assert len(prompts) == 600
    for prompt, content in zip(prompts, contents, strict=True):
        expected = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=False,
        )
        assert list(prompt.token_ids) == expected


def test_prompts_that_are_too_long_are_counted_and_left_out(place: PreparePlace) -> None:
    # three special tokens each; the context is 64 and a completion takes 8: 53 letters fit
    rows = [{"prompt": "a" * length} for length in (53, 54, 5, 400)]
    prompts = place.prepare(place.json_lines(rows))
    assert [p.prompt_id for p in prompts] == ["0", "2"]
    assert (place.prepared["num_prompts"], place.prepared["num_too_long"]) == (2, 2)


def test_max_tokens_of_the_settings_counts_when_it_is_lower(place: PreparePlace) -> None:
    rows = [{"prompt": "a" * length} for length in (7, 8)]
    prompts = place.prepare(place.json_lines(rows), prompts={"max_tokens": 10})
    assert [p.prompt_id for p in prompts] == ["0"]


def test_the_text_of_conditional_sft_needs_room_too(place: PreparePlace) -> None:
    rows = [{"prompt": "a" * length} for length in (50, 51)]
    loss = {"kind": "csft", "chosen_prefix": "yes", "rejected_prefix": "no"}
    prompts = place.prepare(place.json_lines(rows), train={"loss": loss})
    assert [p.prompt_id for p in prompts] == ["0"]


def test_a_long_field_of_a_csv_is_read(place: PreparePlace) -> None:
    source = place.source("p.csv", f"prompt,document\nhi,{'a' * 200_000}\n")
    (prompt,) = place.prepare(source)
    assert prompt.columns == {"document": "a" * 200_000}


REFUSED: dict[str, tuple[str, str | bytes, dict[str, Any], str]] = {
    "empty file": ("p.jsonl", "", {}, "there are no prompts in it"),
    "empty list": ("p.json", "[]", {}, "there are no prompts in it"),
    "json lines named json": ("p.json", '{"a": 1}\n{"a": 2}\n', {}, "line 2.*name it .jsonl"),
    "json object": ("p.json", '{"prompt": "x"}', {}, "holds dict, not a list"),
    "broken line": ("p.jsonl", '{"prompt": "x"}\n{"prompt": \n', {}, r"p\.jsonl, line 2"),
    "row without columns": ("p.jsonl", '"x"\n', {}, "row 1: is str, not an object"),
    "unknown ending": ("p.txt", "x\n", {}, r"\.txt is not read; make it \.json"),
    "not UTF-8": ("p.csv", b"prompt\ncaf\xe9\n", {}, "not UTF-8"),
    "no Parquet file": ("p.parquet", "prompt\n", {}, "is no Parquet file"),
    "fields without columns": ("p.csv", "prompt\nhi, you\n", {}, "line 2: more fields"),
    "wrong delimiter": ("p.csv", "prompt;answer\nx;y\n", {}, "are its columns divided by ';'"),
    "NaN for an id": ("p.json", '[{"prompt": "x", "k": NaN}]', {"prompt_id": "k"}, "'k' is nan"),
    "long number": ("p.jsonl", '{"prompt": "x", "k": ' + "9" * 5000 + "}", {}, "4300 digits"),
    "near column": ("p.csv", "promt,answer\nx,y\n", {}, "did you mean 'promt'.*'promt', 'answer'"),
    "index into text": ("p.jsonl", '{"t": "xy"}\n', {"prompt": "t[0]"}, r"no column 't\[0\]'"),
    "index too high": ("p.jsonl", '{"t": ["x"]}\n', {"prompt": "t[1]"}, r"no column 't\[1\]'"),
    "no id column": ("p.jsonl", '{"prompt": "x"}\n', {"prompt_id": "key"}, "no column 'key'"),
    "no id": ("p.jsonl", '{"prompt": "x", "k": null}\n', {"prompt_id": "k"}, "row 1: the id in"),
    "empty id": ("p.csv", "prompt,k\nx,\n", {"prompt_id": "k"}, "row 1: the id in 'k' is ''"),
    "too deep": ("p.jsonl", "[" * 100_000 + "]" * 100_000, {}, "maximum recursion depth"),
    "empty prompt": ("p.jsonl", '{"prompt": "x"}\n{"prompt": " "}\n', {}, "row 2: 'prompt' is emp"),
    "number": ("p.jsonl", '{"prompt": 3}\n', {}, "'prompt' is int, not text"),
    "no messages": ("p.jsonl", '{"prompt": []}\n', {}, "'prompt' is list, not text"),
    "no message": ("p.jsonl", '{"prompt": [{"role": "user"}]}\n', {}, "must have text in 'role'"),
    "assistant last": (
        "p.jsonl",
        '{"prompt": [{"role": "assistant", "content": "x"}]}\n',
        {},
        "ends with the assistant's turn",
    ),
    "duplicate id": (
        "p.jsonl",
        '{"prompt": "x", "k": 1}\n{"prompt": "y", "k": 1}\n',
        {"prompt_id": "k"},
        "row 2: the id '1' is that of .*row 1 too",
    ),
    "half a character": ("p.jsonl", '{"prompt": "hi \\ud83d"}\n', {}, "row 1: .*half a character"),
    "all too long": (
        "p.jsonl",
        json.dumps({"prompt": "a" * 70}) + "\n",
        {},
        "all 1 prompts are longer than 56 tokens",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_source_that_cannot_be_used_is_refused_with_its_reason(
    place: PreparePlace, case: str
) -> None:
    name, content, settings, message = REFUSED[case]
    source = place.source(name, content)
    with pytest.raises(InputsError, match=message) as raised:
        place.prepare(source, prompts=settings)
    assert name in str(raised.value)
    assert "Traceback" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.jsonl", "there is no such file; name a"),
        ("folder.json", "is a directory; name one"),
        ("folder", "is a directory; name one"),
        ("pipe.jsonl", "is a pipe or a device; write its content to a file"),
        ("/dev/zero", "is a pipe or a device; write its content to a file"),
        ("loop.jsonl", "there is no such file; name a"),
    ],
)
def test_a_path_that_is_no_file_is_refused(place: PreparePlace, name: str, said: str) -> None:
    (place.path / "folder.json").mkdir()
    (place.path / "folder").mkdir()
    os.mkfifo(place.path / "pipe.jsonl")
    (place.path / "loop.jsonl").symlink_to("loop.jsonl")
    with pytest.raises(InputsError, match=said):
        place.prepare(place.path / name)


def test_a_conversation_that_the_chat_template_refuses_is_named(place: PreparePlace) -> None:
    template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}x"
    )
    path = place.source("template.jinja", template)
    own = [{"role": "system", "content": "be"}, {"role": "user", "content": "hi"}]
    source = place.json_lines([{"prompt": "a"}, {"prompt": own}])
    with pytest.raises(InputsError, match=r"row 2: policy\.chat_template = .*refuses .*no system"):
        place.prepare(source, policy={"chat_template": str(path)})


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            b"{{ tools | length }}",
            r"row 1: policy\.chat_template = .*TypeError: .*NoneType.*no tools",
        ),
        (b"{{ messages[0].name.x }}", "row 1: .*fails on the conversation: UndefinedError"),
        (b"{% for m in messages %}x", "is no Jinja template: line 1: .*endfor.*; mend it"),
        (b"caf\xe9", "line 1 is not UTF-8 text; save it as UTF-8"),
        (b"{# nothing #}", "row 1: .*makes no tokens of the conversation"),
    ],
    ids=["tools", "undefined", "syntax", "not UTF-8", "empty"],
)
def test_a_template_that_cannot_be_used_is_named(
    place: PreparePlace, template: bytes, said: str
) -> None:
    path = place.source("template.jinja", template)
    with pytest.raises(InputsError, match=said) as raised:
        place.prepare(place.json_lines(ROWS), policy={"chat_template": str(path)})
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("what", ["missing", "directory", "pipe"])
def test_a_template_that_is_no_file_is_named(place: PreparePlace, what: str) -> None:
    path = place.path / "template.jinja"
    if what == "directory":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    with pytest.raises(InputsError, match=r"policy\.chat_template = .*there is no such file; name"):
        place.prepare(place.json_lines(ROWS), policy={"chat_template": str(path)})


def test_a_column_with_numbers_that_json_has_not_is_named(place: PreparePlace) -> None:
    rows = [
        {"prompt": "a", "score": float("nan"), "deep": [{"x": float("inf")}]},
        {"prompt": "b", "score": 1.0, "deep": []},
        {"prompt": "c", "score": float("-inf"), "deep": []},
    ]
    prompts = place.prepare(place.json_lines(rows))
    assert [prompt.columns["score"] for prompt in prompts] == [None, 1.0, None]
    warnings = [f for f in read_prepared(place.run_dir).findings if f.level == "warning"]
    assert [warning.text.partition(" (the")[0] for warning in warnings] == [
        "column 'score' is NaN or infinite in 2 of 3 prompts",
        "column 'deep' is NaN or infinite in 1 of 3 prompts",
    ]
    assert "row 1" in warnings[0].text
    assert warnings[0].fix == "reward functions get None there, so write null or a number"


@needs_shared
def test_gsm8k_questions_are_prompts_and_answers_are_columns(place: PreparePlace) -> None:
    place.set_context(4096)
    source = SHARED / "gsm8k_train_1000.jsonl"
    prompts = place.prepare(source, prompts={"prompt": "question"})
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    assert texts(prompts) == [row["question"] for row in rows]
    assert [p.columns for p in prompts] == [{"answer": row["answer"]} for row in rows]
    assert len(prompts) == place.prepared["num_prompts"] == 1000


@needs_shared
def test_mt_bench_first_turns_are_prompts(place: PreparePlace) -> None:
    place.set_context(8192)
    source = SHARED / "mt_bench_questions.jsonl"
    prompts = place.prepare(source, prompts={"prompt": "turns[0]", "prompt_id": "question_id"})
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    assert texts(prompts) == [row["turns"][0] for row in rows]
    assert [p.prompt_id for p in prompts] == [str(row["question_id"]) for row in rows]
    assert prompts[0].columns["category"] == rows[0]["category"]


def test_held_out_prompts_are_frozen_beside_those_of_the_run(place: PreparePlace) -> None:
    held_out = place.path / "held_out.jsonl"
    held_out.write_text("".join(f'{{"prompt": "{text}"}}\n' for text in "xyz"))
    named = {"held_out": str(held_out), "num_held_out": 2}
    prompts = place.prepare(place.json_lines([{"prompt": "a"}]), prompts=named)
    assert texts(prompts) == ["a"]
    assert texts(list(read_rows(place.run_dir.held_out, Prompt))) == ["x", "y"]
    assert (place.prepared["num_prompts"], place.prepared["num_held_out"]) == (1, 2)
    assert "held_out.jsonl" in [file["what"] for file in place.prepared["inputs"]]


def test_what_is_wrong_with_held_out_prompts_is_said_of_their_setting(place: PreparePlace) -> None:
    with pytest.raises(InputsError, match=r"prompts\.held_out = '/nowhere/held_out\.jsonl'"):
        place.prepare(
            place.json_lines([{"prompt": "a"}]), prompts={"held_out": "/nowhere/held_out.jsonl"}
        )


def test_without_held_out_prompts_none_are_frozen(place: PreparePlace) -> None:
    place.prepare(place.json_lines([{"prompt": "a"}]))
    assert not place.run_dir.held_out.exists()
    assert place.prepared["num_held_out"] == 0
