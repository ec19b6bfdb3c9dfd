"""The settings of vLLM: what they take, what they refuse, and how paths of programs are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from halos_backend.config.changes import change_settings
from halos_backend.config.load import load_settings, parse_settings
from halos_backend.config.schema import RunSettings
from halos_backend.errors import SettingsError

TABLES: dict[str, Any] = {
    "policy": {"path": "policy"},
    "prompts": {"path": "prompts.jsonl"},
    "label": {
        "judge": {"kind": "function", "function": "judge.py:reward"},
        "feedback": {"kind": "pairwise"},
    },
    "train": {"loss": {"kind": "dpo"}},
}


def parse(*overrides: str, **sample: Any) -> RunSettings:
    return parse_settings({**TABLES, "sample": sample}, source="run.toml", overrides=overrides)


def problems(*overrides: str, **sample: Any) -> dict[str, str]:
    with pytest.raises(SettingsError) as error:
        parse(*overrides, **sample)
    return dict(error.value.problems)


def test_any_engine_argument_is_taken_by_name_with_its_type() -> None:
    found = parse(
        "sample.vllm.arguments.max_num_seqs=64", vllm={"arguments": {"block_size": 32}}
    ).sample.vllm
    assert found.set_arguments == {"block_size": 32, "max_num_seqs": 64}


def test_an_argument_that_is_taken_out_again_is_none() -> None:
    before = parse(vllm={"arguments": {"block_size": 32}}).model_dump(mode="json")
    change = change_settings(before, ["sample.vllm.arguments.block_size=default"])
    after = RunSettings.model_validate(change.settings)
    assert after.sample.vllm.set_arguments == {}
    nulled = parse(vllm={"arguments": {"block_size": None}})
    assert nulled.sample.vllm.set_arguments == {}


@pytest.mark.parametrize(
    ("sample", "path", "said"),
    [
        ({"engine": "vlm"}, "sample.engine", "did you mean 'vllm'?"),
        ({"vllm": {"replica": 2}}, "sample.vllm.replica", "did you mean 'replicas'?"),
        ({"vllm": {"replicas": 0}}, "sample.vllm.replicas", "of at least 1"),
        ({"vllm": {"arguments": 5}}, "sample.vllm.arguments", "takes a table, not 5"),
        (
            {"vllm": {"arguments": {"max-num-seqs": 5}}},
            "sample.vllm.arguments.max-num-seqs",
            "is no name",
        ),
        (
            {"vllm": {"arguments": {"dtype": "float32"}}},
            "sample.vllm.arguments.dtype",
            "is set by policy.dtype",
        ),
        (
            {"vllm": {"arguments": {"skip_tokenizer_init": False}}},
            "sample.vllm.arguments.skip_tokenizer_init",
            "take it out",
        ),
        (
            {"engine": "transformers", "vllm": {"replicas": 2}},
            "sample.vllm",
            "has no effect with sample.engine = 'transformers'",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_path(sample: dict[str, Any], path: str, said: str) -> None:
    assert said in problems(**sample)[path]


def test_engines_need_the_gpus_that_the_run_names() -> None:
    found = problems("launch.devices=[0,1,2]", vllm={"replicas": 2, "tensor_parallel_size": 2})
    assert "need 4, and launch.devices names 3" in found["sample.vllm.replicas"]
    found = problems("launch.devices=[0]", vllm={"tensor_parallel_size": 2})
    assert "need 2" in found["sample.vllm.tensor_parallel_size"]
    parse("launch.devices=[0,1,2,3]", vllm={"replicas": 2, "tensor_parallel_size": 2})


def test_a_python_is_found_beside_the_run_file_and_its_link_is_kept(tmp_path: Path) -> None:
    """A virtual environment's python is a link to another one, and means its own packages."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "real").touch()
    (tmp_path / "venv" / "bin" / "python").symlink_to(tmp_path / "real")
    config = tmp_path / "run.toml"
    config.write_text(
        '[policy]\npath="policy"\n[prompts]\npath="p.jsonl"\n[sample]\npython="venv/bin/python"\n'
        '[label.judge]\nkind="function"\nfunction="judge.py:f"\n[label.feedback]\nkind="pairwise"\n'
        '[train.loss]\nkind="dpo"\n'
    )
    assert load_settings(config).sample.python == str(tmp_path / "venv" / "bin" / "python")
    bare = load_settings(config, ["sample.python=python3.12"])
    assert bare.sample.python == "python3.12"


def test_a_python_that_is_set_later_has_to_be_there(tmp_path: Path) -> None:
    before = parse().model_dump(mode="json")
    with pytest.raises(SettingsError, match="there is no"):
        change_settings(before, [f"sample.python={tmp_path}/none"])
    (tmp_path / "python").touch()
    change = change_settings(before, ["sample.python=./python"], directory=tmp_path)
    assert change.settings["sample"]["python"] == str(tmp_path / "python")
