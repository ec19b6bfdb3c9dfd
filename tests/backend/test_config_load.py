"""Run files and overrides: what is read, and every message a person can get."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from halos_backend.config.load import load_settings, parse_settings, resolve, usable_cores
from halos_backend.config.schema import RunSettings
from halos_backend.errors import ExitCode, SettingsError, UsageError

MINIMAL = """
[policy]
path = "some-org/policy"
[prompts]
path = "some-org/prompts"
[label.judge]
kind = "function"
function = "judge.py:reward"
[label.feedback]
kind = "pairwise"
[train.loss]
kind = "dpo"
"""


def load(tmp_path: Path, text: str = MINIMAL, *overrides: str) -> RunSettings:
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, overrides)


def problems(tmp_path: Path, text: str = MINIMAL, *overrides: str) -> dict[str, str]:
    """Path -> reason of everything that is refused."""
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, *overrides)
    assert caught.value.exit_code == ExitCode.USAGE
    assert "pydantic" not in str(caught.value)
    assert str(tmp_path / "run.toml") in str(caught.value)
    found = dict(caught.value.problems)
    assert len(found) == len(caught.value.problems), "a path is named twice"
    return found


def test_a_minimal_file_gets_every_default(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.train.loss.kind == "dpo"
    assert settings.train.lr == 5e-6
    assert settings.loop.prompts_per_round == 512


# Files that are no TOML


def test_a_missing_file_is_named_with_the_way_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no run file .*/run\.toml; halos-tui init") as caught:
        load_settings(tmp_path / "run.toml")
    assert caught.value.exit_code == ExitCode.USAGE


def test_a_directory_is_no_run_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the run file .*: Is a directory"):
        load_settings(tmp_path)


def test_a_syntax_error_is_shown_with_line_and_column(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, "[policy]\npath = oops\n")
    message = str(caught.value)
    assert "line 2, column 8" in message
    assert "path = oops" in message
    assert "\n" not in message


def test_an_unclosed_table_at_the_end_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="something opened is not closed"):
        load(tmp_path, "x = [1, 2")


def test_bytes_that_are_no_utf8_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(b"[policy]\npath = '\xff'\n")
    with pytest.raises(UsageError, match="line 2: not UTF-8 text; save the file as UTF-8"):
        load_settings(path)


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff" + MINIMAL).policy.path == "some-org/policy"


def test_endless_nesting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nested too deeply|not TOML"):
        load(tmp_path, "x = " + "[" * 100_000)


# Single settings

WRONG_VALUES = [
    ("train.lr=-1", "train.lr", "takes a number above 0, not -1"),
    ("train.lr=true", "train.lr", "takes a number above 0, not true"),
    ("train.lr=nan", "train.lr", "takes a number above 0, not nan"),
    ("train.lr=fast", "train.lr", "takes a number above 0, not 'fast'"),
    ("train.batch_size='32'", "train.batch_size", "takes a whole number of at least 1, not '32'"),
    ("train.batch_size=3.5", "train.batch_size", "takes a whole number of at least 1, not 3.5"),
    ("train.loss.beta=0", "train.loss.beta", "takes a number above 0, not 0"),
    ("sample.top_p=1.5", "sample.top_p", "takes a number above 0 and at most 1, not 1.5"),
    ("train.warmup_frac=1", "train.warmup_frac", "takes a number of at least 0 and below 1, not 1"),
    ("sample.temperature=inf", "sample.temperature", "takes a number of at least 0, not inf"),
    ("sample.temperatures=0.7", "sample.temperatures", "takes a list of numbers, not 0.7"),
    (
        "sample.temperatures=[1, -1]",
        "sample.temperatures[1]",
        "has to be a number of at least 0, not -1",
    ),
    ("policy.path=''", "policy.path", "takes text that is not empty, not ''"),
    ("policy.trust_remote_code=yes", "policy.trust_remote_code", "takes true or false, not 'yes'"),
    ("policy.trust_remote_code=1", "policy.trust_remote_code", "takes true or false, not 1"),
    ("sample.stop=x", "sample.stop", "takes a list of texts, not 'x'"),
    ("sample.stop=['a', 3]", "sample.stop[1]", "has to be text, not 3"),
    ("sample.stop_token_ids=['a']", "sample.stop_token_ids[0]",
     "has to be a whole number, not 'a'"),
    ("loop.num_rounds=0", "loop.num_rounds", "takes a whole number of at least 1, not 0"),
    ("train.lora=3", "train.lora", "is a table: write [train.lora], not 3"),
    ("train.lora.target_modules=3", "train.lora.target_modules",
     "takes text or a list of texts, not 3"),
    ("train.loss=kto", "train.loss", "is a table: write [train.loss] with a kind, not 'kto'"),
    ("train=5", "train", "is a table: write [train], not 5"),
    ("policy.dtype=bf16", "policy.dtype",
     "takes 'auto', 'float32', 'bfloat16' or 'float16', not 'bf16'; did you mean 'bfloat16'?"),
    ("label.judge.function=judge.py", "label.judge.function",
     "takes text of the form file.py:name (a Python file and a function in it), not 'judge.py'"),
    ("label.judge={kind='rules'}", "label.judge.kind",
     "takes 'reward_model', 'function' or 'api', not 'rules'"),
    ("label.feedback.threshold=median", "label.feedback.threshold",
     "'median' fits binary feedback only; pairwise takes a number of at least 0"),
    ("train.loss.humanline={log_epsilon_p=-inf}", "train.loss.humanline.log_epsilon_p",
     "takes a number below 0, not -inf"),
    ("train.lr.peak=1e-6", "train.lr", "takes a number above 0, not a table"),
]  # fmt: skip


@pytest.mark.parametrize(("override", "path", "reason"), WRONG_VALUES)
def test_a_wrong_value_is_refused_by_path_and_in_words(
    tmp_path: Path, override: str, path: str, reason: str
) -> None:
    assert problems(tmp_path, MINIMAL, override) == {path: reason}


def test_a_key_below_a_value_is_refused(tmp_path: Path) -> None:
    text = MINIMAL.replace("[train.loss]", "[train]\nlr = 1e-6\n[train.loss]")
    assert problems(tmp_path, text, "train.lr.peak=1") == {
        "train.lr.peak": "train.lr is a value, not a table: nothing can be set below it"
    }


@pytest.mark.parametrize("threshold", ["medan", "'0.5'", "inf", "true"])
def test_a_binary_threshold_is_a_word_or_a_finite_number(tmp_path: Path, threshold: str) -> None:
    text = MINIMAL.replace('kind = "pairwise"', 'kind = "binary"').replace("dpo", "kto")
    (reason,) = problems(tmp_path, text, f"label.feedback.threshold={threshold}").values()
    assert reason.startswith("takes 'mean', 'median' or a number, not ")


def test_a_long_value_is_cut_in_the_message(tmp_path: Path) -> None:
    (reason,) = problems(tmp_path, MINIMAL, f"train.lr={'x' * 500}").values()
    assert len(reason) < 150


def test_control_characters_in_a_value_are_escaped_in_the_message(tmp_path: Path) -> None:
    (reason,) = problems(tmp_path, MINIMAL, r'train.lr="\u001b[31m"').values()
    assert reason == r"takes a number above 0, not '\x1b[31m'"


# Keys

UNKNOWN_KEYS = [
    ("loop.promptsperround=3", "did you mean 'prompts_per_round'?"),
    ("train.loss.betta=3", "did you mean 'beta'?"),
    ("promts.path=x", "did you mean 'prompts'?"),
    ("train.beta=0.2", "unknown key here; did you mean 'train.loss.beta'?"),
    ("lr=1", "unknown key here; did you mean 'train.lr'?"),
    ("policy.zzz=1", "unknown key; the names here are path, dtype, chat_template,"),
    ("train.loss.tau=1", "unknown key of kind 'dpo'; the names here are kind, beta, humanline"),
    ("loop.promptsperround=default", "did you mean 'prompts_per_round'?"),
]


@pytest.mark.parametrize(("override", "said"), UNKNOWN_KEYS)
def test_an_unknown_key_is_answered_with_the_nearest_name(
    tmp_path: Path, override: str, said: str
) -> None:
    found = problems(tmp_path, MINIMAL, override)
    path = override.partition("=")[0]
    assert said in found["promts" if path == "promts.path" else path]


def test_an_unknown_loss_is_answered_with_all_kinds_and_the_nearest(tmp_path: Path) -> None:
    found = problems(tmp_path, MINIMAL.replace('"dpo"', '"dpoo"'))
    assert found == {
        "train.loss.kind": "takes 'dpo', 'cdpo', 'ipo', 'robust', 'exo', 'apo_zero', 'apo_down',"
        " 'sppo', 'bco', 'simpo', 'slic', 'kto', 'grpo', 'sft', 'csft' or 'bradley_terry', not"
        " 'dpoo'; did you mean 'dpo'?"
    }


def test_missing_tables_and_keys_are_said_with_what_they_are_for(tmp_path: Path) -> None:
    found = problems(tmp_path, '[prompts]\npath = "p"\n[label]\n[train.loss]\nbeta = 0.1\n')
    assert set(found) == {"policy", "label.judge", "label.feedback", "train.loss.kind"}
    assert found["policy"] == "is missing: write a table [policy] (The model that is aligned)"
    assert found["label.judge"].startswith(
        "is missing: write a table [label.judge] with kind = 'reward_model', 'function' or 'api'"
    )
    assert found["train.loss.kind"].startswith("is missing: write kind = 'dpo', 'cdpo'")


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    overrides = ("train.lr=0", "sample.top_p=2", "loop.num_rounds=0", "train.lrr=1", "nonsense")
    found = problems(tmp_path, MINIMAL, *overrides)
    assert set(found) == {"train.lr", "sample.top_p", "loop.num_rounds", "train.lrr", "nonsense"}


def test_no_message_speaks_of_pydantic_or_of_union_members(tmp_path: Path) -> None:
    for override, _, _ in WRONG_VALUES:
        for path, reason in problems(tmp_path, MINIMAL, override).items():
            assert not re.search(r"\.dpo\.|literal|Input|tag|dictionary|http", path + reason)


# Overrides


def test_an_override_is_a_toml_value_or_text(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        MINIMAL,
        "train.lr=1e-6",
        "train.max_grad_norm=.5",
        'sample.stop=["\\n", "end"]',
        "train.lora={r=8}",
        "train.schedule=cosine",
        "prompts.prompt_id=2024",
        "prompts.split=2024-01-01",
    )
    assert settings.train.lr == 1e-6
    assert settings.train.max_grad_norm == 0.5
    assert settings.sample.stop == ("\n", "end")
    assert settings.train.lora is not None
    assert settings.train.lora.r == 8
    assert settings.train.schedule == "cosine"
    assert settings.prompts.prompt_id == "2024"
    assert settings.prompts.split == "2024-01-01"


def test_an_override_cannot_smuggle_in_a_second_key(tmp_path: Path) -> None:
    assert set(problems(tmp_path, MINIMAL, "train.lr=1\nother=2")) == {"train.lr"}


def test_the_last_of_two_overrides_holds(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL, "train.lr=1", "train.lr=2").train.lr == 2


def test_an_override_makes_the_tables_it_needs(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL, "train.lora.r=4", "loop.seed=9")
    assert settings.train.lora is not None
    assert settings.train.lora.r == 4
    assert settings.loop.seed == 9


def test_an_override_opens_a_table_that_resolved_settings_have_as_null(tmp_path: Path) -> None:
    resolved = json.loads(load(tmp_path).model_dump_json())
    assert resolved["train"]["lora"] is None
    settings = parse_settings(resolved, source="now", overrides=["train.lora.r=4"])
    assert settings.train.lora is not None
    assert settings.train.lora.r == 4


def test_default_takes_the_key_out(tmp_path: Path) -> None:
    text = MINIMAL + "beta = 0.3\n[train.lora]\nr = 4\n"
    settings = load(
        tmp_path,
        text,
        "train.loss.beta=default",
        "train.lora=default",
        "train.loss.humanline=default",
    )
    assert settings.train.loss.model_dump() == {"kind": "dpo", "beta": 0.1, "humanline": None}
    assert settings.train.lora is None


def test_taking_out_a_key_of_an_absent_table_does_not_switch_the_table_on(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL, "train.lora.r=default").train.lora is None


@pytest.mark.parametrize("override", ["train.lr", "=3", "train..lr=3", ".=1", "a b=1"])
def test_what_is_no_key_and_value_is_refused(tmp_path: Path, override: str) -> None:
    found = problems(tmp_path, MINIMAL, override)
    assert found == {override: "write KEY=VALUE, for example train.lr=1e-6"}


def test_the_file_itself_is_not_changed_by_overrides() -> None:
    table: dict[str, Any] = {
        "policy": {"path": "p"},
        "prompts": {"path": "q"},
        "label": {
            "judge": {"kind": "function", "function": "a.py:f"},
            "feedback": {"kind": "pairwise"},
        },
        "train": {"loss": {"kind": "dpo"}},
    }
    before = json.dumps(table)
    parse_settings(table, source="here", overrides=["train.lora.r=4", "train.loss.kind=ipo"])
    assert json.dumps(table) == before


def test_switching_a_kind_keeps_what_both_kinds_know(tmp_path: Path) -> None:
    text = MINIMAL.replace('"dpo"', '"cdpo"\nbeta = 0.3\nlabel_smoothing = 0.1')
    settings = load(tmp_path, text, "train.loss.kind=kto")
    loss = settings.train.loss.model_dump()
    assert loss["kind"] == "kto"
    assert loss["beta"] == 0.3
    assert "label_smoothing" not in loss


def test_switching_a_kind_comes_before_the_new_kinds_settings(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL, "train.loss.tau=0.5", "train.loss.kind=ipo")
    assert settings.train.loss.model_dump()["tau"] == 0.5


def test_switching_a_kind_does_not_hide_a_mistyped_key(tmp_path: Path) -> None:
    assert set(problems(tmp_path, MINIMAL + "betta = 1\n", "train.loss.kind=ipo")) == {
        "train.loss.betta"
    }


# Paths


def test_relative_paths_are_those_beside_the_run_file(tmp_path: Path) -> None:
    for name in ("policy", "reference"):
        (tmp_path / name).mkdir()
    for name in ("judge.py", "prompts.jsonl", "chat.jinja"):
        (tmp_path / name).write_text("")
    text = (
        MINIMAL.replace("some-org/policy", "policy")
        .replace("some-org/prompts", "prompts.jsonl")
        .replace("[prompts]", 'chat_template = "chat.jinja"\n[prompts]')
    )
    settings = load(tmp_path, text, "train.reference=reference")
    assert settings.policy.path == str(tmp_path / "policy")
    assert settings.policy.chat_template == str(tmp_path / "chat.jinja")
    assert settings.prompts.path == str(tmp_path / "prompts.jsonl")
    assert settings.label.judge.model_dump()["function"] == f"{tmp_path}/judge.py:reward"
    assert settings.train.reference == str(tmp_path / "reference")


def test_hub_names_and_words_stay_as_they_are(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.policy.path == "some-org/policy"
    assert settings.prompts.path == "some-org/prompts"
    assert settings.train.reference == "initial"


def test_a_file_that_is_missing_is_named_by_its_full_path(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL.replace("some-org/prompts", "missing.jsonl"))
    assert settings.prompts.path == str(tmp_path / "missing.jsonl")


def test_an_overrides_path_is_looked_for_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "policy").mkdir(parents=True)
    (tmp_path / "policy").mkdir()
    monkeypatch.chdir(elsewhere)
    assert load(tmp_path, MINIMAL, "policy.path=policy").policy.path == str(elsewhere / "policy")


def test_what_init_leaves_open_is_refused_until_it_is_named(tmp_path: Path) -> None:
    found = problems(tmp_path, MINIMAL.replace("some-org/policy", "PATH/TO/POLICY"))
    assert found == {"policy.path": "line 3: still as halos-tui init wrote it: name your own there"}


# Threads


@pytest.mark.parametrize(("cores", "processes", "threads"), [(8, 1, 8), (8, 3, 2), (2, 4, 1)])
def test_threads_are_the_cores_over_the_processes(
    tmp_path: Path, cores: int, processes: int, threads: int
) -> None:
    settings = load(
        tmp_path, MINIMAL, f"launch.num_processes={processes}", f"train.batch_size={12}"
    )
    assert resolve(settings, num_cores=cores).launch.num_threads == threads


def test_threads_that_are_set_stay(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL, "launch.num_threads=3")
    assert resolve(settings, num_cores=64).launch.num_threads == 3


def test_there_is_at_least_one_usable_core() -> None:
    assert usable_cores() >= 1
