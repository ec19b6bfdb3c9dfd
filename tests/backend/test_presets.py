"""Files of `init` and the presets: complete, commented, and loadable once their gaps are filled."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from halos_backend.config.load import load_settings, parse_settings
from halos_backend.config.losses import FEEDBACK_OF_LOSS
from halos_backend.config.own_inputs import examine_inputs
from halos_backend.config.presets import (
    init_file,
    minimal_file,
    preset_names,
    preset_notes,
    preset_settings,
)
from halos_backend.config.schema import RunSettings
from halos_backend.config.shape import tables_of
from halos_backend.config.table import Table
from halos_backend.errors import SettingsError, UsageError
from pyarrow import parquet

LOSSES = sorted(FEEDBACK_OF_LOSS)
GAPS = {
    "PATH/TO/POLICY": "org/policy",
    "PATH/TO/PROMPTS.jsonl": "org/prompts",
    "PATH/TO/REWARD_MODEL": "org/judge",
}


def filled(text: str) -> str:
    for gap, name in GAPS.items():
        text = text.replace(gap, name)
    return text


def loaded(tmp_path: Path, text: str) -> RunSettings:
    path = tmp_path / "run.toml"
    path.write_text(filled(text))
    return load_settings(path)


def completed(name: str) -> dict[str, Any]:
    """A preset's tables with what it leaves to the person."""
    table = preset_settings(name)
    table["policy"].setdefault("path", "org/policy")
    table["prompts"].setdefault("path", "org/prompts")
    table["label"]["judge"].setdefault("path", "org/judge")
    return table


@pytest.mark.parametrize("loss", LOSSES)
def test_the_file_of_each_loss_loads_once_its_gaps_are_filled(tmp_path: Path, loss: str) -> None:
    settings = loaded(tmp_path, init_file(loss))
    assert settings.train.loss.kind == loss
    assert settings.label.feedback.kind == FEEDBACK_OF_LOSS[loss][0]


@pytest.mark.parametrize("loss", LOSSES)
def test_the_file_of_each_loss_is_refused_with_its_gaps(tmp_path: Path, loss: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(init_file(loss))
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert {where for where, _ in caught.value.problems} == {
        "policy.path",
        "prompts.path",
        "label.judge.path",
    }


@pytest.mark.parametrize("loss", LOSSES)
def test_a_file_says_every_default_as_it_is(tmp_path: Path, loss: str) -> None:
    written = tomllib.loads(filled(init_file(loss)))
    bare = {
        "policy": {"path": "org/policy"},
        "prompts": {"path": "org/prompts"},
        "label": {
            "judge": {"kind": "reward_model", "path": "org/judge"},
            "feedback": {"kind": written["label"]["feedback"]["kind"]},
        },
        "train": {
            "loss": {"kind": loss},
            "lr": written["train"]["lr"],
            "batch_size": written["train"]["batch_size"],
        },
    }
    assert parse_settings(written, source="written") == parse_settings(bare, source="bare")


@pytest.mark.parametrize("is_cpu", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_short_file_of_each_loss_is_short_and_loads(
    tmp_path: Path, loss: str, *, is_cpu: bool
) -> None:
    text = minimal_file(loss, is_cpu=is_cpu)
    settings = loaded(tmp_path, text)
    assert settings.train.loss.kind == loss
    assert settings.label.feedback.kind == FEEDBACK_OF_LOSS[loss][0]
    assert settings.loop.prompts_per_round == (8 if is_cpu else 512)
    assert 11 <= sum(" = " in line for line in text.splitlines()) <= 15
    assert f"# halos-tui init {loss} --full" in text


def test_on_a_gpu_the_short_file_and_the_full_one_are_the_same_run(tmp_path: Path) -> None:
    for loss in LOSSES:
        assert loaded(tmp_path, minimal_file(loss)) == loaded(tmp_path, init_file(loss))
    name = "llama-instruct-kto"
    short, full = minimal_file("kto", 0.05, 1e-7, name), init_file("kto", 0.05, 1e-7, name)
    assert loaded(tmp_path, short) == loaded(tmp_path, full)
    assert preset_notes(name) in short


def test_what_is_still_to_name_is_refused_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(minimal_file("dpo"))
    lines = path.read_text().splitlines()
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    for (_, reason), gap in zip(caught.value.problems, GAPS, strict=True):
        number = next(i for i, line in enumerate(lines, 1) if gap in line)
        assert reason == f"line {number}: still as halos-tui init wrote it: name your own there"


# --- what a person brings -------------------------------------------------------------------

ROWS = {
    "prompts.jsonl": '\n{"answer": "4", "question": "2 + 2?"}\n',
    "prompts.json": '[{"answer": "4", "question": "2 + 2?"}]',
    "prompts.csv": "answer,question\n4,2 + 2?\n",
}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    policy = tmp_path / "policy"
    policy.mkdir()
    (policy / "config.json").write_text('{"text_config": {"max_position_embeddings": 64}}')
    (tmp_path / "judge.py").write_text("from os import path\ndef reward(p, c, r): return 1.0\n")
    for name, text in ROWS.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("make", [init_file, minimal_file])
def test_own_inputs_make_a_file_that_loads_as_it_is(
    own: Path, name: str, make: Callable[..., str]
) -> None:
    inputs = examine_inputs(
        policy=f"{own}/policy", prompts=f"{own}/{name}", reward=f"{own}/judge.py:reward"
    )
    (own / "elsewhere").mkdir()
    path = own / "elsewhere" / "run.toml"
    path.write_text(make("dpo", inputs=inputs))
    settings = load_settings(path)
    assert settings.policy.path == f"{own}/policy"
    assert (settings.prompts.path, settings.prompts.prompt) == (f"{own}/{name}", "question")
    judge = settings.label.judge.model_dump()
    assert (judge["kind"], judge["function"]) == ("function", f"{own}/judge.py:reward")


def test_the_short_file_fits_the_context_of_the_policy(own: Path) -> None:
    text = minimal_file("dpo", inputs=examine_inputs(policy=f"{own}/policy"))
    assert re.search(r"(?m)^max_new_tokens = 32 +# the policy's context is 64 tokens$", text)


def test_hub_names_are_taken_as_they_are(tmp_path: Path) -> None:
    inputs = examine_inputs(policy="org/policy", prompts="org/data", reward_model="org/judge")
    settings = loaded(tmp_path, minimal_file("grpo", inputs=inputs))
    assert (settings.policy.path, settings.prompts.path) == ("org/policy", "org/data")
    assert settings.label.judge.model_dump()["path"] == "org/judge"


@pytest.mark.parametrize(
    ("columns", "prompt"),
    [
        ({"text": "a"}, "text"),
        ({"prompt": "a", "question": "b"}, "prompt"),
        ({"id": 1, "instruction": "b"}, "instruction"),
        ({"turns": ["a", "b"], "id": 1}, "turns[0]"),
    ],
)
def test_the_column_of_the_prompts_is_guessed(
    tmp_path: Path, columns: dict[str, Any], prompt: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(columns))
    table = examine_inputs(prompts=str(path)).tables["prompts"]
    assert table.get("prompt", "prompt") == prompt


def test_columns_of_parquet_are_guessed_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"answer": ["4"], "problem": ["2 + 2?"]}), path)
    assert examine_inputs(prompts=str(path)).tables["prompts"]["prompt"] == "problem"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"policy": "{own}"}, "is no model's directory, for it has no config.json"),
        ({"policy": "{own}/judge.py"}, "that is a file; name the model's directory"),
        ({"policy": "./nowhere"}, "no such directory, and that is no name on the hub either"),
        ({"prompts": "{own}/nowhere.jsonl"}, "there is no such file"),
        ({"prompts": "{own}/judge.py"}, "make it .json, .jsonl, .csv or .parquet"),
        ({"prompts": "{own}/torn.jsonl"}, "its first row cannot be read"),
        ({"prompts": "{own}/empty.jsonl"}, "no row with columns"),
        ({"prompts": "{own}/torn.parquet"}, "its first row cannot be read"),
        ({"prompts": "{own}/unclear.jsonl"}, r"which of its columns \(a, b\) is the prompt"),
        ({"prompts": "{own}/prompts.csv", "prompt_column": "x"}, "the columns answer, question"),
        ({"prompt_column": "x"}, "name that file too"),
        ({"reward": "{own}/judge.py"}, "has no function; it defines path, reward"),
        ({"reward": "{own}/judge.py:rewrad"}, "has no rewrad; it defines path, reward"),
        ({"reward": "{own}/none.py:f"}, r"no such file; it defines\n  def f\(prompt"),
        ({"reward": "{own}/torn.jsonl"}, "write FILE.py:FUNCTION"),
        ({"reward": "{own}/torn.py:f"}, "that is no Python"),
        ({"reward": "a.py:f", "reward_model": "org/b"}, "name one of them"),
    ],
)
def test_inputs_that_are_not_there_are_refused(own: Path, given: dict[str, str], said: str) -> None:
    (own / "torn.jsonl").write_text('{"a": ')
    (own / "torn.parquet").write_text("PAR1")
    (own / "torn.py").write_text("def f(:\n")
    (own / "empty.jsonl").write_text("\n")
    (own / "unclear.jsonl").write_text('{"a": "x", "b": "y"}')
    with pytest.raises(UsageError, match=said):
        examine_inputs(**{name: value.replace("{own}", str(own)) for name, value in given.items()})


def switched_on(text: str, table: str) -> str:
    """The file with one commented table made live, the way its first lines say."""
    blocks = text.split("\n\n")
    return "\n\n".join(
        re.sub(r"(?m)^#(?! )", "", block) if f"#[{table}]\n" in block + "\n" else block
        for block in blocks
    )


def test_the_switched_off_tables_load_when_their_marks_are_taken_away(tmp_path: Path) -> None:
    text = switched_on(switched_on(init_file("kto"), "train.lora"), "train.loss.humanline")
    settings = loaded(tmp_path, text.replace('reference = "initial"', 'reference = "previous"'))
    assert settings.train.lora is not None
    assert settings.train.loss.model_dump()["humanline"]["log_epsilon_r"] == 1.5


def fields_of(table: type[Table]) -> set[str]:
    names = set()
    for name, field in table.model_fields.items():
        names.add(name)
        if len(tables_of(field)) == 1:
            names |= fields_of(tables_of(field)[0])
    return names


def test_a_file_shows_every_setting_with_its_help() -> None:
    text = init_file("dpo")
    headers = re.findall(r"(?m)^#?\[([\w.]+)\]$", text)
    shown = set(re.findall(r"(?m)^#?(\w+) =", text)) | set(".".join(headers).split("."))
    assert fields_of(RunSettings) <= shown
    prose = " ".join(line.removeprefix("# ") for line in text.splitlines() if line[:2] == "# ")
    for table in ("policy", "sample", "launch"):
        for field in tables_of(RunSettings.model_fields[table])[0].model_fields.values():
            assert " ".join((field.description or "").split()) in prose


@pytest.mark.parametrize(
    ("loss", "name"),
    [("dpo", "beta"), ("kto", "beta"), ("grpo", "beta"), ("ipo", "tau"), ("slic", "delta")],
)
def test_beta_and_lr_are_set_by_position(tmp_path: Path, loss: str, name: str) -> None:
    settings = loaded(tmp_path, init_file(loss, 0.25, 3e-7))
    assert settings.train.loss.model_dump()[name] == 0.25
    assert settings.train.lr == 3e-7


@pytest.mark.parametrize("loss", ["sft", "csft", "bradley_terry"])
def test_a_beta_for_a_loss_without_one_is_refused(loss: str) -> None:
    with pytest.raises(UsageError, match=f"{loss} has no beta: leave BETA out"):
        init_file(loss, 0.1)


def test_an_unknown_loss_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"LOSS takes 'dpo', .* not 'dpp'; did you mean 'dpo'"):
        init_file("dpp")


def test_a_loss_without_a_reference_is_not_offered_one() -> None:
    assert "\nreference =" not in init_file("simpo")
    assert "\nreference =" in init_file("dpo")


def test_there_are_the_presets_of_the_online_scripts() -> None:
    instruct = ("llama-instruct-dpo", "llama-instruct-grpo", "llama-instruct-kto")
    humanline = [f"{name}-humanline" for name in instruct]
    assert set(preset_names()) == {"llama-dpo", *instruct, *humanline}


@pytest.mark.parametrize("name", preset_names())
def test_each_preset_loads(name: str) -> None:
    parse_settings(completed(name), source=name)


@pytest.mark.parametrize("name", preset_names())
def test_a_file_of_a_preset_has_its_values_and_its_notes(tmp_path: Path, name: str) -> None:
    settings = parse_settings(completed(name), source=name)
    text = init_file(settings.train.loss.kind, preset=name)
    assert loaded(tmp_path, text) == settings
    script = name.replace("-", "_").replace("_humanline", "_online_humanline")
    assert script.removeprefix("llama_") in text.replace("-", "_")
    assert "Otherwise here:" in text


def test_beta_and_lr_go_over_a_presets(tmp_path: Path) -> None:
    settings = loaded(tmp_path, init_file("kto", 0.05, 1e-7, preset="llama-instruct-kto"))
    loss = settings.train.loss.model_dump()
    assert (loss["beta"], loss["desirable_weight"], settings.train.lr) == (0.05, 1.1, 1e-7)


def test_a_preset_of_another_loss_is_refused() -> None:
    with pytest.raises(UsageError, match="'llama-dpo' is for dpo: halos-tui init dpo"):
        init_file("kto", preset="llama-dpo")


def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no preset 'lama-dpo'; did you mean 'llama-dpo'"):
        preset_settings("lama-dpo")
    with pytest.raises(UsageError, match="no preset 'xyz'; there are llama-dpo, "):
        preset_settings("xyz")


# Values of the scripts, read in ContextualAI/HALOs at 4831988


@pytest.mark.parametrize("name", preset_names())
def test_all_presets_sample_as_the_scripts_do(name: str) -> None:
    settings = parse_settings(completed(name), source=name)
    sample = settings.sample
    assert (sample.temperature, sample.top_p, sample.max_new_tokens) == (0.7, 0.95, 2048)
    assert settings.prompts.max_tokens == 512
    assert sample.group_size == (4 if name == "llama-dpo" else 8)
    assert settings.train.weight_decay == 0.01
    assert (settings.train.adam_beta1, settings.train.adam_beta2) == (0.9, 0.999)
    assert settings.train.schedule == "constant"


def test_llama_dpo_has_the_scripts_budget_and_reference() -> None:
    settings = parse_settings(completed("llama-dpo"), source="llama-dpo")
    assert (settings.loop.num_prompts, settings.loop.prompts_per_round) == (2048, 512)
    assert settings.train.batch_size == 16
    assert settings.train.reference == "initial"
    assert "path" not in preset_settings("llama-dpo")["prompts"]


@pytest.mark.parametrize(("loss", "batch"), [("dpo", 32), ("kto", 64), ("grpo", 64)])
@pytest.mark.parametrize("suffix", ["", "-humanline"])
def test_instruct_presets_have_the_scripts_batches_judge_and_clamps(
    loss: str, batch: int, suffix: str
) -> None:
    settings = parse_settings(completed(f"llama-instruct-{loss}{suffix}"), source="preset")
    judge = settings.label.judge.model_dump()
    assert judge["path"] == "RLHFlow/ArmoRM-Llama3-8B-v0.1"
    assert judge["trust_remote_code"]
    assert settings.train.batch_size == batch
    assert settings.train.max_grad_norm == 0.5
    assert settings.train.reference == "previous"
    humanline = settings.train.loss.model_dump()["humanline"]
    expected = {"log_epsilon_p": -1.0, "log_epsilon_r": 1.5, "sync_every": 1}
    assert humanline == (expected if suffix else None)
    feedback = settings.label.feedback.model_dump()
    pairs = {"kind": "pairwise", "pairing": "max", "threshold": 0.01}
    assert feedback == ({"kind": "scalar"} if loss == "grpo" else pairs)
