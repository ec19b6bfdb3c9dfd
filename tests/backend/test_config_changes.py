"""Changes between rounds: what is refused, what is made absolute, what follows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from halos_backend.config.changes import (
    FIXED,
    Change,
    change_settings,
    check_settings,
    is_fixed,
    refuse_for_begun_round,
)
from halos_backend.config.consequences import reset_reason
from halos_backend.config.load import defaults_taken, parse_settings, resolve
from halos_backend.config.schema import RunSettings, TrainSettings
from halos_backend.errors import ExitCode, SettingsError

RUN_FILE: dict[str, Any] = {
    "policy": {"path": "some-org/policy"},
    "prompts": {"path": "some-org/prompts"},
    "label": {
        "judge": {"kind": "reward_model", "path": "some-org/judge"},
        "feedback": {"kind": "pairwise"},
    },
    "train": {"loss": {"kind": "dpo"}, "lr": 1e-6},
}


def settings(*overrides: str) -> dict[str, Any]:
    """Resolved settings of a run, as its journal has them."""
    made = resolve(parse_settings(RUN_FILE, source="test", overrides=overrides), num_cores=4)
    return made.model_dump(mode="json")


def change(*overrides: str, run: dict[str, Any] | None = None, **where: Path) -> Change:
    return change_settings(run or settings(), overrides, **where)


def problems(*overrides: str, run: dict[str, Any] | None = None, **where: Path) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        change(*overrides, run=run, **where)
    assert caught.value.exit_code == ExitCode.USAGE
    assert str(caught.value).startswith("nothing was changed: ")
    found = dict(caught.value.problems)
    assert len(found) == len(caught.value.problems), "a path is named twice"
    return found


# What a change is


def test_a_change_names_each_setting_before_and_now() -> None:
    made = change("train.lr=2e-6", "loop.prompts_per_round=256")

    assert made.changes == {"train.lr": (1e-6, 2e-6), "loop.prompts_per_round": (512, 256)}
    expected = settings()
    expected["train"]["lr"] = 2e-6
    expected["loop"]["prompts_per_round"] = 256
    assert made.settings == expected
    RunSettings.model_validate(made.settings)


def test_the_current_settings_stay_as_they_are() -> None:
    run = settings()
    before = json.dumps(run)
    change("train.loss.kind=kto", "train.lora.r=4", "label.judge.path=other/judge", run=run)
    assert json.dumps(run) == before


def test_a_changed_kind_is_one_change_of_the_whole_table() -> None:
    (path,) = (made := change("train.loss.kind=ipo", "train.loss.tau=0.5")).changes

    assert path == "train.loss"
    assert [side["kind"] for side in made.changes[path]] == ["dpo", "ipo"]
    assert made.settings["train"]["loss"] == {"kind": "ipo", "tau": 0.5, "humanline": None}


def test_a_switched_kind_gets_its_own_defaults_not_those_of_the_old_one() -> None:
    """simpo's default beta is 10, dpo's 0.1; binary feedback's threshold the median."""
    assert change("train.loss.kind=simpo").settings["train"]["loss"]["beta"] == 10.0
    kto = change("train.loss.kind=kto", "label.feedback.kind=binary").settings
    assert kto["label"]["feedback"]["threshold"] == "median"


def test_a_switched_kind_keeps_what_was_set() -> None:
    made = change("train.loss.kind=kto", run=settings("train.loss.beta=0.3"))
    assert made.settings["train"]["loss"]["beta"] == 0.3


def test_an_adapter_is_switched_on_and_off_as_a_whole() -> None:
    on = change("train.lora.r=4")
    assert on.changes["train.lora"][0] is None
    assert on.changes["train.lora"][1]["r"] == 4
    assert change("train.lora=default", run=on.settings).changes["train.lora"][1] is None


def test_a_guard_is_added_and_changed() -> None:
    added = change("guards.kl={metric='kl_initial', above=10}")
    assert added.changes["guards.kl"][0] is None
    raised = change("guards.kl.above=20", run=added.settings)
    assert raised.changes == {"guards.kl.above": (10.0, 20.0)}
    off = change("guards.kl.action=off", run=added.settings)
    assert off.changes == {"guards.kl.action": ("pause", "off")}


@pytest.mark.parametrize("override", ["guards.kl=default", "guards={}"])
def test_a_guard_cannot_be_taken_out_only_put_off(override: str) -> None:
    run = change("guards.kl={metric='kl_initial', above=10}").settings
    with pytest.raises(SettingsError) as caught:
        change(override, run=run)
    found = dict(caught.value.problems)
    assert found["guards.kl"] == "cannot be taken out of a run: write guards.kl.action=off"


def test_default_has_the_default_hold_again() -> None:
    run = settings("train.lr=0.001", "loop.num_rounds=4", "guards.disk.below=2")
    made = change(
        "train.lr=default", "loop.num_rounds=default", "guards.disk.below=default", run=run
    )
    assert made.changes == {
        "train.lr": (0.001, 5e-6),
        "loop.num_rounds": (4, None),
        "guards.disk.below": (2.0, 1.0),
    }
    assert defaults_taken(made.overrides, made.settings) == [
        "train.lr is 5e-6, its default",
        "loop.num_rounds is unset, its default",
        "guards.disk.below is 1.0, its default",
    ]


@pytest.mark.parametrize("override", ["train.lr=", "train.lr= ", "train.lora=", "guards.disk="])
def test_no_value_is_no_change_but_a_mistake(override: str) -> None:
    key = override.partition("=")[0]
    assert problems(override) == {
        key: f"has no value behind the =; {key}=default has its default hold"
    }


def test_what_has_no_default_says_so() -> None:
    assert problems("label.judge.path=default") == {
        "label.judge.path": "has no default: write a value"
    }


def test_the_word_default_in_quotes_is_text() -> None:
    loaded = parse_settings(settings(), source="here", overrides=["prompts.subset='default'"])
    assert loaded.prompts.subset == "default"


# What is refused


@pytest.mark.parametrize(
    "override",
    [
        "policy.path=other/policy",
        "policy.path=some-org/policy",
        "policy.dtype=bfloat16",
        "policy.chat_template=other.jinja",
        "policy={path='other/policy'}",
        "policy.pth=x",
        "prompts.split=test",
        "prompts.path=other.jsonl",
        "loop.seed=1",
        "loop.seed=fast",
        "loop . seed=1",
    ],
)
def test_what_is_fixed_for_the_runs_life_is_refused_with_what_to_do_instead(override: str) -> None:
    found = problems(override)
    path = re.sub(r"\s", "", override.partition("=")[0])
    assert found[path].startswith("fixed for the run's life, since ")
    assert found[path].endswith(
        "start a new run, or one from a round of this one with halos-tui fork"
    )


def test_a_fixed_setting_is_found_in_a_table_that_is_set_as_a_whole() -> None:
    found = problems("loop={num_rounds=3, seed=5}")
    assert found.keys() == {"loop.seed"}
    assert found["loop.seed"].startswith("fixed for the run's life")


def test_all_of_policy_and_prompts_and_the_seed_are_fixed_and_nothing_else() -> None:
    assert FIXED.keys() == {"policy", "prompts", "loop.seed"}
    assert is_fixed("policy")
    assert is_fixed("policy.chat_template")
    assert is_fixed("loop.seed")
    assert not is_fixed("loop")
    assert not is_fixed("loop.num_rounds")
    assert not is_fixed("policy_x")


WRONG = [
    ("train.lr=-1", "train.lr", "takes a number above 0, not -1"),
    ("train.lr=true", "train.lr", "takes a number above 0, not true"),
    ("train.lrr=1", "train.lrr", "unknown key; did you mean 'lr'?"),
    ("train.loss.tau=1", "train.loss.tau", "unknown key of kind 'dpo'; the names here are"),
    ("train.loss.kind=dpoo", "train.loss.kind", "did you mean 'dpo'?"),
    ("train.loss.kind=grpo", "label.feedback.kind", "cannot learn from pairwise feedback"),
    ("sample.group_size=1", "sample.group_size", "write 2 or more"),
    ("nonsense", "nonsense", "write KEY=VALUE"),
]


@pytest.mark.parametrize(("override", "path", "reason"), WRONG)
def test_what_a_run_file_could_not_say_is_refused_in_the_same_words(
    override: str, path: str, reason: str
) -> None:
    assert reason in problems(override)[path]


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("train.lr=1e-6", "is 1e-06 already"),
        ("train.lr=0.000001", "is 1e-06 already"),
        ("train.lora=default", "is unset already"),
        ("train.loss.kind=dpo", "is 'dpo' already"),
        ("sample.stop=[]", "is that already"),
        ("label.feedback={kind='pairwise'}", "is that already"),
        ("launch.num_threads=default", "is 4 already"),
    ],
)
def test_a_change_without_effect_is_refused(
    override: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halos_backend.config.load.usable_cores", lambda: 4)
    assert problems(override) == {override.partition("=")[0]: reason}


def test_each_override_without_effect_is_named_beside_others_that_have_one() -> None:
    assert problems("train.lr=2e-6", "train.loss.beta=0.1") == {"train.loss.beta": "is 0.1 already"}


def test_no_override_is_no_change() -> None:
    assert problems() == {"": "name a setting: KEY=VALUE, for example train.lr=1e-6"}


def test_all_problems_are_said_at_once() -> None:
    found = problems(
        "train.lr=0", "train.lrr=1", "policy.path=x", "nonsense", "label.judge.path=/no/judge"
    )
    assert found.keys() == {"train.lr", "train.lrr", "policy.path", "nonsense", "label.judge.path"}


@pytest.mark.parametrize(
    ("run", "override", "was"),
    [
        ((), "train.loss.kind=bradley_terry", "a policy"),
        (("train.loss.kind=bradley_terry",), "train.loss.kind=dpo", "a reward model"),
    ],
)
def test_a_run_keeps_training_what_it_trains(run: tuple[str, ...], override: str, was: str) -> None:
    found = problems(override, run=settings(*run))
    assert found["train.loss.kind"].startswith(f"the run trains {was}, and ")


def test_settings_made_of_several_changes_are_checked_as_a_whole() -> None:
    made = settings()
    assert check_settings(made) == []
    made["train"]["loss"] = {"kind": "grpo"}
    assert [path for path, _ in check_settings(made)] == ["label.feedback.kind"]
    made["train"]["lr"] = -1
    assert [path for path, _ in check_settings(made)] == ["train.lr"]


# Files


def test_relative_paths_are_made_absolute_for_a_supervisor_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "judges").mkdir()
    (tmp_path / "judge.py").write_text("")
    made = change("label.judge.path=judges", directory=tmp_path)
    assert made.settings["label"]["judge"]["path"] == str(tmp_path / "judges")

    function = change(
        "label.judge.kind=function", "label.judge.function=judge.py:reward", directory=tmp_path
    )
    assert function.settings["label"]["judge"] == {
        "kind": "function",
        "function": f"{tmp_path}/judge.py:reward",
    }
    again = change(*function.overrides)
    assert again.settings == function.settings
    assert change("train.lr=2e-6", directory=tmp_path).overrides == ("train.lr=2e-6",)


def test_a_path_within_a_table_is_made_absolute_too(tmp_path: Path) -> None:
    (tmp_path / "judges").mkdir()
    made = change("label.judge={kind='reward_model', path='judges'}", directory=tmp_path)
    assert made.settings["label"]["judge"]["path"] == str(tmp_path / "judges")
    assert change(*made.overrides).settings == made.settings


@pytest.mark.parametrize("name", ["./judge", "judge/a/b", "/no/such/judge", "~/no/such/judge"])
def test_a_path_of_nothing_is_refused(name: str, tmp_path: Path) -> None:
    found = problems(f"label.judge.path={name}", directory=tmp_path)
    assert found["label.judge.path"].startswith("there is no ")


def test_a_function_of_no_file_is_refused(tmp_path: Path) -> None:
    overrides = ("label.judge.kind=function", "label.judge.function=judge.py:reward")
    found = problems(*overrides, directory=tmp_path)
    assert found == {"label.judge.function": f"there is no {tmp_path}/judge.py"}
    assert problems(*overrides) == {
        "label.judge.function": "there is no judge.py:reward here: write an absolute path"
    }


@pytest.mark.parametrize("name", ["other-org/judge", "judge"])
def test_what_may_be_a_hub_name_passes(name: str, tmp_path: Path) -> None:
    made = change(f"label.judge.path={name}", directory=tmp_path)
    assert made.settings["label"]["judge"]["path"] == name
    assert change(f"label.judge.path={name}").settings == made.settings


def test_a_word_for_the_reference_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "previous").mkdir()
    made = change("train.reference=previous", directory=tmp_path)
    assert made.settings["train"]["reference"] == "previous"


def test_paths_that_nobody_changed_need_not_exist_any_more(tmp_path: Path) -> None:
    run = settings("label.judge.path=/was/here/once")
    assert change("label.judge.dtype=bfloat16", run=run, directory=tmp_path).changes


# What follows

CONSEQUENCES = [
    (
        (),
        ("train.loss.kind=ipo",),
        [
            "AdamW's moments start anew, the weights go on: the loss changed from dpo to ipo"
            " (train.keep_optimizer = true would carry them)",
            "values of the ipo loss cannot be compared with those of dpo before",
        ],
    ),
    (
        ("train.keep_optimizer=true",),
        ("train.loss.kind=ipo",),
        [
            "AdamW's moments are carried over the change of the loss: train.keep_optimizer = true",
            "values of the ipo loss cannot be compared with those of dpo before",
        ],
    ),
    (
        (),
        ("train.lora.r=4",),
        [
            "AdamW's moments start anew, the weights go on: the trainable parameters (train.lora)"
            " changed"
        ],
    ),
    (
        ("train.keep_optimizer=true",),
        ("train.lora.r=4",),
        [
            "AdamW's moments start anew, the weights go on: the trainable parameters (train.lora)"
            " changed (which train.keep_optimizer = true cannot help)"
        ],
    ),
    (
        (),
        ("train.keep_optimizer=false",),
        ["every round starts AdamW's moments anew: train.keep_optimizer = false"],
    ),
    (("train.keep_optimizer=false",), ("train.weight_decay=0.1",), []),
    (
        (),
        ("train.reference=previous",),
        [
            "the reference is 'previous' instead of 'initial': implicit rewards and the KL to the"
            " reference cannot be compared with those of earlier rounds (kl_initial can)"
        ],
    ),
    ((), ("train.lr=4e-6",), ["the peak learning rate is 4 times that before"]),
    (
        (),
        ("train.loss.beta=0.25",),
        [
            "values of the loss cannot be compared with those of earlier rounds",
            "implicit rewards are of another scale: 2.5 times that before",
        ],
    ),
    (
        (),
        ("loop.num_rounds=20",),
        [
            "the learning rate's schedule spans the run (train.schedule_scope = 'run'): it is"
            " stretched or shortened to the run's new length, and the rate may jump"
        ],
    ),
    (("train.schedule_scope=round",), ("loop.num_rounds=20",), []),
    (("train.schedule=constant", "train.warmup_frac=0"), ("loop.num_rounds=20",), []),
    (
        (),
        ("train.schedule=cosine",),
        ["the learning rate follows the new schedule from there on, and may jump"],
    ),
    (
        (),
        ("sample.group_size=16",),
        ["a round samples at most 2 times as many tokens (4,194,304 instead of 2,097,152)"],
    ),
    (
        ("train.schedule_scope=round",),
        ("loop.prompts_per_round=256",),
        [
            "a round samples at most 0.5 times as many tokens (1,048,576 instead of 2,097,152)",
            "a round takes fewer prompts: 256 instead of 512",
        ],
    ),
    (
        (),
        ("train.num_epochs=2",),
        ["a round goes through its feedback 2 times instead of once"],
    ),
    (
        ("loop.keep_best=false",),
        ("label.judge.path=other/judge",),
        ["rewards come of another judge: they cannot be compared with those of earlier rounds"],
    ),
    (
        (),
        ("label.feedback.threshold=0.5",),
        [
            "feedback is made otherwise: how much of it there is, its margins and implicit rewards"
            " cannot be compared with earlier rounds"
        ],
    ),
    (
        ("loop.keep_checkpoints=5",),
        ("loop.keep_checkpoints=2",),
        ["the next round's end deletes up to 3 checkpoints more"],
    ),
    (("loop.keep_checkpoints=2",), ("loop.keep_checkpoints=5",), []),
    ((), ("loop.pause_after_each_round=true",), []),
    ((), ("train.adam_beta2=0.95",), []),
]


@pytest.mark.parametrize(("run", "overrides", "expected"), CONSEQUENCES)
def test_what_follows_from_a_change_is_said(
    run: tuple[str, ...], overrides: tuple[str, ...], expected: list[str]
) -> None:
    assert list(change(*overrides, run=settings(*run)).consequences) == expected


def test_another_judge_breaks_the_comparison_that_keep_best_makes() -> None:
    (said,) = change("label.judge.path=other/judge").consequences
    assert "loop.keep_best" in said


@pytest.mark.parametrize(
    "override",
    [
        "sample.temperature=1",
        "sample.temperatures=[0.5, 1.0]",
        "sample.top_k=20",
        "sample.min_p=0.1",
        "sample.repetition_penalty=1.1",
        "sample.min_new_tokens=4",
    ],
)
def test_other_ways_to_draw_completions_are_said(override: str) -> None:
    (said,) = change(override).consequences
    assert said.startswith("completions are drawn otherwise")


# Rounds that have begun

BEGUN = [
    ("loop.prompts_per_round=256", (), "taken its prompts already"),
    ("sample.temperature=1", (), None),
    ("sample.temperature=1", ("sample",), "finished its sample stage already"),
    ("label.judge.path=other/judge", ("sample",), None),
    ("label.judge.path=other/judge", ("sample", "label"), "finished its label stage already"),
    ("train.lr=2e-6", ("sample", "label"), None),
    ("train.lr=2e-6", ("sample", "label", "train"), "finished its train stage already"),
    ("train.loss.kind=ipo", ("sample", "label"), None),
    ("train.loss.kind=csft", (), None),
    ("train.loss.kind=csft", ("sample",), "csft's control text goes before them"),
    ("loop.num_rounds=9", ("sample", "label", "train"), None),
    ("launch.stall_timeout_s=9", ("sample", "label", "train"), None),
]


@pytest.mark.parametrize(("override", "done", "reason"), BEGUN)
def test_what_a_finished_stage_rests_on_is_refused_for_its_round(
    override: str, done: tuple[str, ...], reason: str | None
) -> None:
    found = refuse_for_begun_round(change(override).changes, done=done, round=3)
    if reason is None:
        assert found == []
    else:
        ((path, said),) = found
        assert override.startswith(path)
        assert said.startswith("round 3 has ")
        assert reason in said
        assert said.endswith("from the next round on: --from-round 4")


@pytest.mark.parametrize(
    ("key", "is_refused"), [("chosen_prefix", True), ("rejected_prefix", False)]
)
def test_csfts_text_of_good_completions_is_that_they_were_sampled_behind(
    key: str, is_refused: bool
) -> None:
    run = settings("train.loss.kind=csft")
    changes = change(f"train.loss.{key}=text", run=run).changes
    assert bool(refuse_for_begun_round(changes, done={"sample"}, round=1)) is is_refused
    assert not refuse_for_begun_round(changes, done=(), round=1)


@pytest.mark.parametrize(
    ("override", "is_refused"),
    [
        ("train.loss.sampler_ratio_cap=2", True),
        ("train.loss.dual_clip=3", False),
        ("train.loss.clip_high=0.28", False),
    ],
)
def test_a_loss_cannot_begin_to_take_the_samplers_numbers_after_sampling(
    override: str, is_refused: bool
) -> None:
    run = settings("train.loss.kind=grpo", "label.feedback.kind=scalar")
    changes = change(override, run=run).changes
    assert bool(refuse_for_begun_round(changes, done={"sample"}, round=1)) is is_refused
    assert not refuse_for_begun_round(changes, done=(), round=1)
    with_cap = settings(
        "train.loss.kind=grpo", "label.feedback.kind=scalar", "train.loss.sampler_ratio_cap=2"
    )
    changes = change("train.loss.sampler_ratio_cap=3", run=with_cap).changes
    assert not refuse_for_begun_round(changes, done={"sample"}, round=1)


def test_leaving_csft_after_sampling_is_refused_too() -> None:
    changes = change("train.loss.kind=sft", run=settings("train.loss.kind=csft")).changes
    assert refuse_for_begun_round(changes, done={"sample"}, round=1)


# AdamW's moments


def train(loss: str = "dpo", **values: Any) -> TrainSettings:
    return TrainSettings.model_validate({"loss": {"kind": loss}, **values})


LOSS = "the loss changed from dpo to kto"
ADAPTERS = "the trainable parameters (train.lora) changed"
UNSAVED = "the round before did not save AdamW's moments (its train.keep_optimizer was false)"
RESETS = [
    (train(), train(), None),
    (train(), train(lr=1.0, weight_decay=0.5, adam_beta1=0.5, reference="previous"), None),
    (train(), train("kto"), LOSS),
    (train(), train("kto", keep_optimizer=True), None),
    (train(), train(keep_optimizer=False), "train.keep_optimizer = false"),
    (train(keep_optimizer=False), train(), UNSAVED),
    (train(keep_optimizer=False), train(keep_optimizer=True), UNSAVED),
    (train(), train(lora={}), ADAPTERS),
    (train(lora={}), train(), ADAPTERS),
    (train(lora={"r": 4}), train(lora={"r": 8}), ADAPTERS),
    (train(lora={"alpha": 4}), train(lora={"alpha": 8}), ADAPTERS),
    (train(lora={"target_modules": ["a"]}), train(lora={"target_modules": ["b"]}), ADAPTERS),
    (train(lora={"dropout": 0.1}), train(lora={"dropout": 0.2}), None),
    (train(), train(lora={}, keep_optimizer=True), ADAPTERS),
    (train(), train("kto", lora={}), f"{LOSS} and {ADAPTERS}"),
]


@pytest.mark.parametrize(("before", "now", "reason"), RESETS)
def test_moments_start_anew_for_another_loss_or_other_parameters(
    before: TrainSettings, now: TrainSettings, reason: str | None
) -> None:
    assert reset_reason(before, now) == reason
