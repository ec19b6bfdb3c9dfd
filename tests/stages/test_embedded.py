"""The embedded task, its tokenizer, and the building of its models from a reduced recipe."""

from __future__ import annotations

import fcntl
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import psutil
import pytest
import torch
from halos_backend.config.load import parse_settings
from halos_backend.embedded.build import Encoder, embedded_files, ensure_built
from halos_backend.embedded.demo import LOSSES, demo_settings
from halos_backend.embedded.recipe import EmbeddedFiles, Recipe
from halos_backend.embedded.task import (
    Problem,
    corrupt,
    is_exact,
    problems,
    unique_problems,
)
from halos_backend.embedded.tokenizer import make_tokenizer
from halos_backend.errors import HalosError, UsageError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from tests.support.forks import forking_python

REDUCED = Recipe(
    hidden_size=16,
    intermediate_size=32,
    num_layers=1,
    num_heads=2,
    policy_steps=4,
    reward_model_steps=4,
    batch_size=8,
    num_prompts=30,
    num_held_out=10,
)


@pytest.fixture(scope="module", autouse=True)
def quick_stages() -> Iterator[None]:
    """The stages that build models begin with their libraries imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", forking_python())
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedFiles:
    reports: list[tuple[str, int, int]] = []
    files = ensure_built(
        REDUCED, lambda *report: reports.append(report), cache=tmp_path_factory.mktemp("cache")
    )
    assert {("policy", 4, 4), ("reward model", 4, 4)} <= set(reports)
    return files


def test_a_problem_reads_as_a_request_and_its_sorted_digits() -> None:
    problem = Problem((4, 1, 3))
    assert (problem.prompt, problem.answer) == ("sort 4 1 3", "1 3 4")


@pytest.mark.parametrize(
    ("completion", "is_right"),
    [
        ("1 3 4", True),
        (" 1  3 4 ", True),
        ("1 4 3", False),
        ("1 3", False),
        ("1 3 4 4", False),
        ("", False),
        ("134", False),
    ],
)
def test_only_the_sorted_digits_are_exact(completion: str, is_right: bool) -> None:
    assert is_exact("1 3 4", completion) is is_right


def test_a_corrupted_answer_is_never_the_answer() -> None:
    numbers = random.Random(0)
    for problem in islice(problems(1), 500):
        for num_errors in (1, 3):
            wrong = corrupt(problem.answer, numbers, num_errors=num_errors)
            assert wrong.split() != problem.answer.split()
            assert wrong


def test_corruption_is_the_same_for_the_same_numbers() -> None:
    def wrongs(seed: int) -> list[str]:
        numbers = random.Random(seed)
        return [corrupt("1 3 4 8", numbers, num_errors=1) for _ in range(20)]

    assert wrongs(7) == wrongs(7)
    assert wrongs(7) != wrongs(8)


def test_unique_problems_repeat_nothing_and_leave_out_what_they_are_told_to() -> None:
    held_out = unique_problems(200, 3)
    others = unique_problems(2000, 4, without=frozenset(held_out))
    assert len(set(held_out)) == 200
    assert len(set(others)) == 2000
    assert not set(held_out) & set(others)
    assert held_out == unique_problems(200, 3)


def test_a_prompt_with_generation_prompt_begins_the_whole_conversation(tmp_path: Path) -> None:
    make_tokenizer().save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    asked = [{"role": "user", "content": "sort 4 1 3"}]
    said = [*asked, {"role": "assistant", "content": "1 3 4"}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(said, tokenize=False)
    assert prompt == "<|start|><|user|>sort 4 1 3<|assistant|>"
    assert whole == prompt + "1 3 4<|end|>"
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == [
        *("<|start|>", "<|user|>", "sort", "4", "1", "3", "<|assistant|>"),
        *("1", "3", "4", "<|end|>"),
    ]
    assert tokenizer.decode(ids[7:], skip_special_tokens=True) == "1 3 4"


def test_the_encoder_gives_the_ids_of_the_chat_template(tmp_path: Path) -> None:
    make_tokenizer().save_pretrained(tmp_path)
    tokenizer, encoder = AutoTokenizer.from_pretrained(tmp_path), Encoder(tmp_path)
    for problem in islice(problems(5), 20):
        chat = [{"role": "user", "content": problem.prompt}]
        rendered = tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
        assert list(encoder.prompt(problem.prompt)) == rendered
        whole = tokenizer.apply_chat_template(
            [*chat, {"role": "assistant", "content": problem.answer}]
        )["input_ids"]
        assert rendered + list(encoder.completion(problem.answer).token_ids) == whole


def test_the_models_are_ordinary_hugging_face_directories(built: EmbeddedFiles) -> None:
    policy = AutoModelForCausalLM.from_pretrained(built.policy)
    judge = AutoModelForSequenceClassification.from_pretrained(built.reward_model)
    assert policy.config.hidden_size == judge.config.hidden_size == 16
    assert judge.config.num_labels == 1
    assert judge(input_ids=torch.tensor([[1, 2, 3]])).logits.shape == (1, 1)
    for path in (built.policy, built.reward_model):
        assert AutoTokenizer.from_pretrained(path).chat_template
    assert sorted(path.name for path in built.path.iterdir()) == [
        "held_out.jsonl",
        "policy",
        "prompts.jsonl",
        "reward_model",
    ]


def test_no_held_out_problem_is_among_the_prompts(built: EmbeddedFiles) -> None:
    prompts, held_out = (
        [json.loads(line)["prompt"] for line in path.read_text().splitlines()]
        for path in (built.prompts, built.held_out)
    )
    assert (len(set(prompts)), len(set(held_out))) == (len(prompts), len(held_out)) == (30, 10)
    assert not set(prompts) & set(held_out)


def kill_a_build_once_it_trains(cache: Path) -> None:
    program = (
        "import sys, json; from pathlib import Path;"
        "from halos_backend.embedded.build import ensure_built;"
        "from halos_backend.embedded.recipe import Recipe;"
        "recipe = Recipe(**json.loads(sys.argv[1]));"
        "ensure_built(recipe, lambda *report: None, cache=Path(sys.argv[2]))"
    )
    arguments = [json.dumps(asdict(REDUCED)), str(cache)]
    with subprocess.Popen([sys.executable, "-c", program, *arguments]) as build:
        deadline = time.monotonic() + 60
        while not any(
            "halos_backend.stages.train" in stage.cmdline()
            for stage in psutil.Process(build.pid).children()
        ):
            assert build.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        build.kill()


@pytest.mark.slow
def test_a_killed_build_is_built_again_with_the_same_bytes_after_its_stage_has_ended(
    built: EmbeddedFiles, tmp_path: Path
) -> None:
    kill_a_build_once_it_trains(tmp_path)
    place = embedded_files(REDUCED, tmp_path).path
    assert not place.exists()
    with (place.parent / "lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    again = ensure_built(REDUCED, lambda *report: None, cache=tmp_path)
    for name in ("policy/model.safetensors", "reward_model/model.safetensors", "prompts.jsonl"):
        assert (again.path / name).read_bytes() == (built.path / name).read_bytes()


def test_a_built_recipe_is_not_built_again(built: EmbeddedFiles) -> None:
    reports: list[tuple[str, int, int]] = []
    cache = built.path.parents[1]
    assert ensure_built(REDUCED, lambda *report: reports.append(report), cache=cache) == built
    assert reports == []


def test_another_recipe_has_another_place() -> None:
    here = Path("cache")
    changed = replace(REDUCED, policy_lr=1e-3)
    assert embedded_files(REDUCED, here).path != embedded_files(changed, here).path


def test_a_failed_build_leaves_nothing_that_looks_built(tmp_path: Path) -> None:
    impossible = replace(REDUCED, policy_lr=1e30)
    with pytest.raises(HalosError, match="policy could not be trained"):
        ensure_built(impossible, lambda *report: None, cache=tmp_path)
    assert not embedded_files(impossible, tmp_path).path.exists()


def test_a_cache_that_cannot_be_written_is_told_with_the_setting_that_moves_it(
    tmp_path: Path,
) -> None:
    cache = tmp_path / "file"
    cache.touch()
    with pytest.raises(HalosError, match=r"file/embedded.*HALOS_CACHE_DIR"):
        ensure_built(REDUCED, lambda *report: None, cache=cache)


def test_a_build_whose_watcher_fails_leaves_no_stage_behind(tmp_path: Path) -> None:
    def fail(*report: object) -> None:
        raise RuntimeError("watcher")

    with pytest.raises(RuntimeError, match="watcher"):
        ensure_built(REDUCED, fail, cache=tmp_path)
    assert not embedded_files(REDUCED, tmp_path).path.exists()
    assert not any(str(tmp_path) in " ".join(c.cmdline()) for c in psutil.Process().children())


@pytest.mark.parametrize("loss", LOSSES)
def test_the_demo_of_every_loss_is_a_valid_run(loss: str, built: EmbeddedFiles) -> None:
    table = demo_settings(built, loss=loss, num_rounds=2)
    made = parse_settings(table, source="demo")
    assert made.train.loss.kind == loss
    assert made.loop.num_rounds == 2


def test_a_loss_that_the_demo_does_not_have_is_refused_with_those_it_has() -> None:
    with pytest.raises(UsageError, match="it has dpo, cdpo"):
        demo_settings(EmbeddedFiles(Path("nowhere")), loss="dpoo", num_rounds=1)
    program = [sys.executable, "-m", "halos_backend.embedded.demo", "--loss", "dpoo"]
    finished = subprocess.run(program, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr.startswith("the demo has no loss 'dpoo'")
    assert len(finished.stderr.splitlines()) == 1
