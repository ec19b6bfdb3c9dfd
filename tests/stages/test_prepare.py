"""The check before a run: formats, columns, counts, and what is refused with which words."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from halos_backend.config.schema import RunSettings
from halos_backend.errors import PromptsError, UsageError
from halos_backend.records import Message, Prompt, read_rows
from halos_backend.stages.prepare.prepare import prepare
from halos_backend.store.run_dir import RunDir
from place import make_policy, make_tokenizer
from pyarrow import parquet
from transformers import LlamaForCausalLM

REAL_DATA = Path(__file__).parents[3] / "shared" / "data"
NUM_PARAMETERS = (
    2 * 32 * 32  # embeddings and head
    + 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32)  # two layers
    + 32  # last norm
)
"""Of place.make_policy: 32 words, 32 wide, 64 inside, 4 heads of which 2 for keys and values."""


class Prepared:
    """A run directory to prepare."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.policy = path / "policy"
        make_policy(self.policy)
        (path / "judge.py").write_text("def reward(prompt, completion, row): return 1.0\n")

    def __call__(self, source: str | Path, **tables: dict[str, Any]) -> dict[str, Any]:
        """Prepare a run on `source`; what was found."""
        table: dict[str, Any] = {
            "policy": {"path": str(self.policy)},
            "prompts": {"path": str(source)},
            "sample": {"max_new_tokens": 8},
            "label": {
                "judge": {"kind": "function", "function": f"{self.path}/judge.py:reward"},
                "feedback": {"kind": "pairwise"},
            },
            "train": {"loss": {"kind": "dpo"}},
            "launch": {"num_threads": 1},
        }
        for name, values in tables.items():
            table[name] = {**table[name], **values}
        self.run_dir = RunDir(self.path / "run")
        shutil.rmtree(self.run_dir.path, ignore_errors=True)
        self.run_dir.path.mkdir()
        settings = RunSettings.model_validate(table)
        self.run_dir.resolved_config.write_text(settings.model_dump_json())
        prepare(self.run_dir)
        found: dict[str, Any] = json.loads(self.run_dir.prepared.read_text())
        return found

    def prompts(self) -> list[Prompt]:
        return list(read_rows(self.run_dir.prompts, Prompt))

    def write(self, name: str, rows: list[Any]) -> Path:
        path = self.path / name
        if path.suffix == ".json":
            path.write_text(json.dumps(rows))
        elif path.suffix == ".csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
        elif path.suffix == ".parquet":
            parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path


@pytest.fixture
def prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Prepared:
    return Prepared(tmp_path)


ROWS = [{"prompt": "what is it", "answer": "x"}, {"prompt": "who, me", "answer": "y"}]


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".csv", ".parquet"])
def test_every_format_gives_the_same_prompts(prepared: Prepared, ending: str) -> None:
    found = prepared(prepared.write(f"rows{ending}", ROWS))
    assert (found["num_prompts"], found["num_too_long"]) == (2, 0)
    first, second = prepared.prompts()
    assert (first.prompt_id, second.prompt_id) == ("0", "1")
    assert first.prompt == (Message("user", "what is it"),)
    assert (first.columns, second.columns) == ({"answer": "x"}, {"answer": "y"})


def test_token_ids_are_those_of_the_chat_template(prepared: Prepared) -> None:
    prepared(prepared.write("rows.jsonl", ROWS), prompts={"system_prompt": "be kind"})
    tokenizer = make_tokenizer()
    for prompt in prepared.prompts():
        assert prompt.prompt[0] == Message("system", "be kind")
        chat = [{"role": turn.role, "content": turn.content} for turn in prompt.prompt]
        rendered = tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
        assert list(prompt.token_ids) == rendered


def test_the_policy_is_measured_without_loading_it(prepared: Prepared) -> None:
    source = prepared.write("rows.jsonl", ROWS)
    found = prepared(source)
    assert found["num_parameters"] == NUM_PARAMETERS
    assert found["checkpoint_bytes"] == 4 * NUM_PARAMETERS
    assert found["context_length"] == 64
    half = prepared(source, policy={"dtype": "bfloat16"})
    assert half["checkpoint_bytes"] == 2 * NUM_PARAMETERS
    assert half["policy_sha256"] == found["policy_sha256"]
    make_other = LlamaForCausalLM.from_pretrained(prepared.policy)
    make_other.lm_head.weight.data += 1
    make_other.save_pretrained(prepared.policy)
    assert prepared(source)["policy_sha256"] != found["policy_sha256"]


@pytest.mark.parametrize(
    ("row", "mapping"),
    [
        ({"question": "what is it"}, "question"),
        ({"turns": ["what is it", "and then"]}, "turns[0]"),
        ({"a": {"b": "what is it"}}, "a.b"),
        ({"a.b": "what is it"}, "a.b"),
        ({"a": [{"b": [{"role": "user", "content": "what is it"}]}]}, "a[0].b"),
    ],
)  # fmt: skip
def test_a_column_path_reaches_inside(
    prepared: Prepared, row: dict[str, Any], mapping: str
) -> None:
    prepared(prepared.write("rows.jsonl", [row]), prompts={"prompt": mapping})
    assert prepared.prompts()[0].prompt == (Message("user", "what is it"),)


def test_halos_samples_count_once_per_prompt(prepared: Prepared) -> None:
    chats = [[{"role": "user", "content": text}] for text in ("one", "two")]
    rows = [
        {"type": "sample", "prompt_id": i, "sample_id": k, "prompt": chats[i], "output": f"{k}"}
        for i in range(2)
        for k in range(3)
    ]
    assert prepared(prepared.write("samples.json", rows))["num_prompts"] == 2
    assert [prompt.prompt[0].content for prompt in prepared.prompts()] == ["one", "two"]


def test_ids_come_from_their_column(prepared: Prepared) -> None:
    rows = [{"prompt": "one", "id": 7}, {"prompt": "two", "id": "b"}]
    prepared(prepared.write("rows.jsonl", rows), prompts={"prompt_id": "id"})
    assert [prompt.prompt_id for prompt in prepared.prompts()] == ["7", "b"]


def test_prompts_that_are_too_long_are_counted_and_left_out(prepared: Prepared) -> None:
    # Context 64, completions of 8: 56 tokens are left, of which the template takes 3.
    rows = [{"prompt": "x" * 53}, {"prompt": "x" * 54}, {"prompt": "x"}]
    found = prepared(prepared.write("rows.jsonl", rows))
    assert (found["num_prompts"], found["num_too_long"]) == (2, 1)
    assert [prompt.prompt_id for prompt in prepared.prompts()] == ["0", "2"]
    shorter = prepared(prepared.path / "rows.jsonl", prompts={"max_tokens": 10})
    assert (shorter["num_prompts"], shorter["num_too_long"]) == (1, 2)


REFUSED_ROWS: dict[str, tuple[list[Any], str]] = {
    "empty file": ([], "there are no prompts in it"),
    "missing column": ([{"promt": "x"}], "no column 'prompt'; did you mean 'promt'"),
    "empty prompt": ([{"prompt": "x"}, {"prompt": "  "}], "row 2: 'prompt' is empty"),
    "number": ([{"prompt": 3}], "row 1: 'prompt' is int"),
    "no object": ([["x"]], "row 1: is list"),
    "assistant last": (
        [{"prompt": [{"role": "assistant", "content": "x"}]}], "ends with the assistant's turn"),
    "message without role": ([{"prompt": [{"content": "x"}]}], "'role' and in 'content'"),
    "all too long": ([{"prompt": "x" * 60}], "all 1 prompts are longer than 56 tokens"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_ROWS)
def test_rows_that_are_no_prompts_are_refused_by_row(prepared: Prepared, case: str) -> None:
    rows, said = REFUSED_ROWS[case]
    with pytest.raises(PromptsError) as refused:
        prepared(prepared.write("rows.jsonl", rows))
    assert said in str(refused.value)
    assert "rows.jsonl" in str(refused.value)


def test_an_id_that_occurs_twice_is_refused(prepared: Prepared) -> None:
    source = prepared.write("rows.jsonl", [{"prompt": "one", "id": 7}, {"prompt": "two", "id": 7}])
    with pytest.raises(PromptsError, match=r"row 2: the id '7' is that of .*row 1"):
        prepared(source, prompts={"prompt_id": "id"})


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.jsonl", b'{"prompt": "x"}\n{"prompt"\n', "line 2"),
        ("rows.json", b'{"prompt": "x"}\n{"prompt": "y"}\n', "name it .jsonl"),
        ("rows.json", b'{"prompt": "x"}', "not a list"),
        ("rows.txt", b"x", "make it .json"),
        ("rows.csv", b"prompt\n\xff\xfe\n", "not UTF-8"),
        ("rows.parquet", b"x", "no Parquet file"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(
    prepared: Prepared, name: str, content: bytes, said: str
) -> None:
    source = prepared.path / name
    source.write_bytes(content)
    with pytest.raises(PromptsError) as refused:
        prepared(source)
    assert said in str(refused.value)


def test_settings_that_the_policy_cannot_hold_are_refused(prepared: Prepared) -> None:
    source = prepared.write("rows.jsonl", ROWS)
    with pytest.raises(UsageError, match=r"max_new_tokens = 64 leaves no room.*context is 64"):
        prepared(source, sample={"max_new_tokens": 64})
    with pytest.raises(UsageError, match=r"prompts.max_tokens = 57 .*to 56 or less"):
        prepared(source, prompts={"max_tokens": 57})
    with pytest.raises(UsageError, match="stop_token_ids: 30 is no token"):
        prepared(source, sample={"stop_token_ids": [30]})


def test_a_policy_that_cannot_be_loaded_is_refused(prepared: Prepared) -> None:
    source = prepared.write("rows.jsonl", ROWS)
    weights = prepared.policy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:20])
    with pytest.raises(UsageError, match="no safetensors file, or it was cut short"):
        prepared(source)
    weights.unlink()
    with pytest.raises(UsageError, match="no weights in safetensors"):
        prepared(source)
    (prepared.policy / "config.json").unlink()
    with pytest.raises(UsageError, match="cannot load the model"):
        prepared(source)


def test_a_judge_that_cannot_score_is_refused(prepared: Prepared) -> None:
    source = prepared.write("rows.jsonl", ROWS)

    def with_judge(**judge: Any) -> None:
        prepared(source, label={"judge": judge, "feedback": {"kind": "pairwise"}})

    with pytest.raises(UsageError, match=r"no sequence classifier .LlamaForCausalLM"):
        with_judge(kind="reward_model", path=str(prepared.policy))
    with pytest.raises(UsageError, match="has no nobody"):
        with_judge(kind="function", function=f"{prepared.path}/judge.py:nobody")
    with pytest.raises(UsageError, match="there is no file"):
        with_judge(kind="function", function=f"{prepared.path}/missing.py:reward")


def test_the_program_says_one_line_and_exits_two(prepared: Prepared) -> None:
    with pytest.raises(PromptsError):
        prepared("some/dataset-that-is-nowhere")
    program = [sys.executable, "-m", "halos_backend.stages.prepare", "--run-dir"]
    finished = subprocess.run(
        [*program, str(prepared.run_dir.path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert finished.returncode == 2
    assert "cannot be loaded as a Hugging Face dataset" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    ("name", "mapping", "count"),
    [
        ("gsm8k_train_1000.jsonl", {"prompt": "question"}, 1000),
        ("mt_bench_questions.jsonl", {"prompt": "turns[0]", "prompt_id": "question_id"}, 80),
    ],
)
def test_real_prompts_are_read_by_a_mapping_alone(
    prepared: Prepared, name: str, mapping: dict[str, str], count: int
) -> None:
    if not (REAL_DATA / name).is_file():
        pytest.skip(f"{name} is not beside the checkout")
    config = json.loads((prepared.policy / "config.json").read_text())
    config["max_position_embeddings"] = 100_000
    (prepared.policy / "config.json").write_text(json.dumps(config))
    assert prepared(REAL_DATA / name, prompts=mapping)["num_prompts"] == count
    rows = [json.loads(line) for line in (REAL_DATA / name).read_text().splitlines()]
    for prompt, row in zip(prepared.prompts(), rows, strict=True):
        wanted = row["question"] if "question" in row else row["turns"][0]
        assert prompt.prompt == (Message("user", wanted),)
