"""The checks of policy and judge, what is measured of the policy, and the program itself."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from halos_backend.errors import UsageError
from halos_backend.findings import InputsError
from halos_backend.stages.prepare import prepare as prepare_module
from halos_backend.stages.prepare.__main__ import main as prepare_main
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from tests.support.place import make_tokenizer
from tests.support.prepare_fixtures import ROWS, PreparePlace, hub

WEIGHTS = "model.safetensors"
# 32 tokens, 32 wide, 2 layers; 4 heads of 8, 2 of them for keys and values; 64 wide inside
EMBEDDING = HEAD = 32 * 32
ATTENTION = 32 * 32 + 2 * 32 * 16 + 32 * 32
MLP = 3 * 32 * 64
NORMS = 2 * 32
NUM_PARAMETERS = EMBEDDING + 2 * (ATTENTION + MLP + NORMS) + 32 + HEAD


@pytest.fixture
def place(tmp_path: Path) -> PreparePlace:
    return PreparePlace(tmp_path)


def small_config(**changes: object) -> LlamaConfig:
    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    return LlamaConfig(**sizes, num_attention_heads=2, pad_token_id=0, **changes)


def save_reward_model(path: Path, *, num_labels: int = 1, template: bool = True) -> None:
    LlamaForSequenceClassification(small_config(num_labels=num_labels)).save_pretrained(path)
    tokenizer = make_tokenizer()
    if not template:
        tokenizer.chat_template = None
    tokenizer.save_pretrained(path)


def test_policy_is_measured(place: PreparePlace) -> None:
    place.prepare(place.json_lines(ROWS))
    found = place.prepared
    assert found["num_parameters"] == NUM_PARAMETERS
    assert found["checkpoint_bytes"] == 4 * NUM_PARAMETERS
    assert found["policy_dtype"] == "float32"
    assert found["context_length"] == 64
    prompts = place.run_dir.prompts.read_bytes()
    assert found["prompts_sha256"] == hashlib.sha256(prompts).hexdigest()


def test_checkpoints_of_a_half_precision_policy_are_half_as_large(place: PreparePlace) -> None:
    place.prepare(place.json_lines(ROWS), policy={"dtype": "bfloat16"})
    assert place.prepared["checkpoint_bytes"] == 2 * NUM_PARAMETERS
    assert place.prepared["policy_dtype"] == "bfloat16"


def test_sharded_weights_count_like_whole_ones(place: PreparePlace) -> None:
    policy = LlamaForCausalLM.from_pretrained(place.policy)
    (place.policy / WEIGHTS).unlink()
    policy.save_pretrained(place.policy, max_shard_size="20KB")
    assert len(list(place.policy.glob("*.safetensors"))) > 1
    place.prepare(place.json_lines(ROWS))
    assert place.prepared["num_parameters"] == NUM_PARAMETERS


def test_policy_digest_changes_with_its_weights(place: PreparePlace) -> None:
    source = place.json_lines(ROWS)
    place.prepare(source)
    first = place.prepared["policy_sha256"]
    place.prepare(source)
    assert place.prepared["policy_sha256"] == first
    policy = LlamaForCausalLM.from_pretrained(place.policy)
    with torch.no_grad():
        policy.lm_head.weight[0, 0] += 1.0
    policy.save_pretrained(place.policy)
    place.prepare(source)
    assert place.prepared["policy_sha256"] != first


def test_policy_without_weights_is_refused(place: PreparePlace) -> None:
    (place.policy / WEIGHTS).unlink()
    with pytest.raises(UsageError, match=r"no weights in safetensors \(model.safetensors is missi"):
        place.prepare(place.json_lines(ROWS))


def test_a_missing_shard_is_named(place: PreparePlace) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (place.policy / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    (place.policy / WEIGHTS).rename(place.policy / "model-1.safetensors")
    with pytest.raises(UsageError, match=r"model-2.safetensors is missing"):
        place.prepare(place.json_lines(ROWS))


def test_an_index_beside_whole_weights_counts_for_nothing(place: PreparePlace) -> None:
    # transformers takes model.safetensors where there is one
    (place.policy / f"{WEIGHTS}.index.json").write_text('{"weight_map": {"a": "gone"}}')
    place.prepare(place.json_lines(ROWS))
    assert place.prepared["num_parameters"] == NUM_PARAMETERS


def test_an_index_that_was_cut_short_is_refused(place: PreparePlace) -> None:
    (place.policy / WEIGHTS).rename(place.policy / "model-1.safetensors")
    (place.policy / f"{WEIGHTS}.index.json").write_text('{"weight_map": {"a"')
    with pytest.raises(UsageError, match="is no index of weights, or cut short"):
        place.prepare(place.json_lines(ROWS))


@pytest.mark.parametrize("num_bytes", [0, 5, 100, -1], ids=["empty", "prefix", "header", "data"])
def test_weights_that_were_cut_short_are_refused(place: PreparePlace, num_bytes: int) -> None:
    weights = place.policy / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:num_bytes])
    with pytest.raises(UsageError, match="cut short; copy it again"):
        place.prepare(place.json_lines(ROWS))


def test_policy_without_chat_template_is_refused(place: PreparePlace) -> None:
    (place.policy / "chat_template.jinja").unlink()
    with pytest.raises(UsageError, match=r"no chat template; name a Jinja file in policy\.chat_t"):
        place.prepare(place.json_lines(ROWS))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", "{", "cannot load the model .*; copy its files again"),
        ("config.json", '{"model_type": "llama", "hidden_size": "x"}', "'hidden_size'.*copy its"),
        (
            "tokenizer.json",
            '{"version": "1.0"',
            "cannot load the tokenizer .*; copy its files again",
        ),
        ("tokenizer.json", "[]", "cannot load the tokenizer"),
        ("tokenizer_config.json", "[" * 9_999, "cannot load the tokenizer .*RecursionError"),
        (WEIGHTS, "\x08" + "\0" * 7 + '{"a": 1}', "is no safetensors file, or it was cut short"),
    ],
)
def test_a_damaged_file_of_the_policy_is_told_in_words(
    place: PreparePlace, name: str, content: str, said: str
) -> None:
    (place.policy / name).write_text(content)
    with pytest.raises(InputsError, match=said):
        place.prepare(place.json_lines(ROWS))


def test_a_file_that_may_not_be_read_is_a_problem(
    place: PreparePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(path: str, *_others: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(prepare_module, "load_tokenizer", deny)
    with pytest.raises(InputsError, match="policy cannot be read: Permission denied; see who may"):
        place.prepare(place.json_lines(ROWS))


def test_a_defect_is_told_with_the_file_of_its_traceback(
    place: PreparePlace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_others: object, **_named: object) -> None:
        raise KeyError("of ours")

    monkeypatch.setattr(prepare_module, "note_inputs", fail)
    monkeypatch.setenv("XDG_STATE_HOME", str(place.path / "state"))
    place.write_settings(place.json_lines(ROWS))
    assert prepare_main(["--run-dir", str(place.run_dir.path)]) == 1
    said = capsys.readouterr().err
    (log,) = (place.path / "state" / "halos-tui" / "log").iterdir()
    assert said == (
        "this is a defect of halos-tui (KeyError: 'of ours'), and nothing that you did wrong;"
        f" please report it with {log}\n"
    )
    assert "Traceback" in log.read_text()


@pytest.mark.parametrize("max_new_tokens", [64, 100])
def test_completions_that_fill_the_context_are_refused(
    place: PreparePlace, max_new_tokens: int
) -> None:
    with pytest.raises(UsageError, match=r"leaves no room for a prompt: .* context is 64 tokens"):
        place.prepare(place.json_lines(ROWS), sample={"max_new_tokens": max_new_tokens})


def test_prompt_tokens_that_do_not_fit_with_the_completion_are_refused(place: PreparePlace) -> None:
    source = place.json_lines(ROWS)
    place.prepare(source, prompts={"max_tokens": 56})
    with pytest.raises(UsageError, match=r"exceed .* of 64 tokens; lower prompts.max_tokens to 56"):
        place.prepare(source, prompts={"max_tokens": 57})


@pytest.mark.parametrize("token_id", [-1, 30])
def test_stop_tokens_must_be_tokens(place: PreparePlace, token_id: int) -> None:
    source = place.json_lines(ROWS)
    place.prepare(source, sample={"stop_token_ids": [0, 29]})
    with pytest.raises(UsageError, match=f"{token_id} is no token of the policy; it has 30"):
        place.prepare(source, sample={"stop_token_ids": [29, token_id]})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("judge.py:rewards", "judge.py has no rewards"),
        ("judge.py:NUMBER", "is not a function: NUMBER"),
        ("nowhere.py:reward", "there is no file"),
        ("broken.py:reward", "raised ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_a_judge_that_cannot_be_called_is_refused(
    place: PreparePlace, spec: str, message: str
) -> None:
    (place.path / "broken.py").write_text("import no_such_module\n")
    judge = {"kind": "function", "function": f"{place.path}/{spec}"}
    with pytest.raises(UsageError, match=message):
        place.prepare(place.json_lines(ROWS), label={"judge": judge})


def reward_model(place: PreparePlace, path: Path) -> None:
    judge = {"kind": "reward_model", "path": str(path)}
    place.prepare(place.json_lines(ROWS), label={"judge": judge})


def test_a_reward_model_is_accepted(place: PreparePlace) -> None:
    save_reward_model(place.path / "judge")
    reward_model(place, place.path / "judge")
    assert place.prepared["num_prompts"] == 2


def test_a_causal_model_is_no_reward_model(place: PreparePlace) -> None:
    with pytest.raises(UsageError, match=r"is no sequence classifier \(LlamaForCausalLM\)"):
        reward_model(place, place.policy)


def test_a_classifier_of_many_labels_is_no_reward_model(place: PreparePlace) -> None:
    save_reward_model(place.path / "judge", num_labels=5)
    with pytest.raises(UsageError, match="has 5 labels; a reward model has one or two"):
        reward_model(place, place.path / "judge")


def test_a_reward_model_without_weights_is_refused(place: PreparePlace) -> None:
    save_reward_model(place.path / "judge")
    (place.path / "judge" / WEIGHTS).unlink()
    with pytest.raises(UsageError, match=r"label\.judge\.path = .*there are no weights in safet"):
        reward_model(place, place.path / "judge")


def test_a_reward_model_without_chat_template_is_refused(place: PreparePlace) -> None:
    save_reward_model(place.path / "judge", template=False)
    with pytest.raises(UsageError, match=r"reward model .* has no chat template"):
        reward_model(place, place.path / "judge")


def run_program(place: PreparePlace, **environment: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "halos_backend.stages.prepare", "--run-dir", place.run_dir.path],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_program_says_how_far_it_is(place: PreparePlace) -> None:
    place.write_settings(place.json_lines([{"prompt": "a"} for _ in range(1300)]))
    finished = run_program(place)
    assert finished.returncode == 0
    assert finished.stderr == ""
    progress = [line.split() for line in finished.stdout.splitlines()]
    assert all(line[0] == "progress" and line[2] == "1300" for line in progress)
    assert progress[-1] == ["progress", "1300", "1300"]


def test_a_policy_of_the_hub_is_fetched_with_all_its_shards(place: PreparePlace) -> None:
    policy = LlamaForCausalLM.from_pretrained(place.policy)
    (place.policy / WEIGHTS).unlink()
    policy.save_pretrained(place.policy, max_shard_size="20KB")
    place.write_settings(place.json_lines(ROWS), policy={"path": "someone/policy"})
    with hub(place.policy) as address:
        finished = run_program(
            place, HF_HUB_OFFLINE="0", HF_ENDPOINT=address, HF_HOME=place.path / "cache"
        )
    assert (finished.returncode, finished.stderr) == (0, "")
    assert place.prepared["num_parameters"] == NUM_PARAMETERS
    assert place.prepared["num_prompts"] == 2


def test_a_full_disk_is_one_message(place: PreparePlace) -> None:
    place.write_settings(place.json_lines(ROWS))
    place.run_dir.prompts.symlink_to("/dev/full")
    finished = run_program(place)
    assert finished.returncode == 1
    assert finished.stderr == f"no space left on the disk of {place.run_dir.path}; free some\n"
    assert not place.run_dir.prepared.exists()


def test_a_name_that_is_neither_file_nor_dataset_is_one_message(place: PreparePlace) -> None:
    place.write_settings("nobody/no-such-dataset")
    finished = run_program(place)
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr
    assert len(finished.stderr.splitlines()) == 1
    assert "prompts.path = 'nobody/no-such-dataset': no such file, and it cannot be" in (
        finished.stderr
    )
