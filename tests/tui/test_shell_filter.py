"""The filter of the list of runs: which runs a line of terms keeps, and what it refuses."""

from __future__ import annotations

import pytest
from halos_backend.errors import UsageError

from halos_tui.runs.filter import parse_filter, setting_at

RUN: dict[str, object] = {
    "name": "dpo-0412",
    "status": "paused",
    "loss": "dpo",
    "stage": "train",
    "round": 3,
    "reward": 0.25,
    "train.lr": 1e-6,
    "train.loss.beta": 0.1,
    "launch.warm_workers": True,
    "policy.path": "/models/Llama 3",
    "title": "Lower beta",
    "tag": ("baseline", "paper"),
    "note": "collapses late",
}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "   ",
        "0412",
        "DPO",
        "dpo 0412",
        "status:paused",
        "status=paused",
        "status!=running",
        "loss:DP",
        "-status:running",
        "-test",
        "round>=3",
        "round=3.0",
        "round:3",
        "name~^dpo-\\d+$",
        "reward<0.5",
        "train.lr>=1e-6 train.lr<=1e-6",
        "launch.warm_workers=true",
        "tag:base",
        "tag=paper",
        "tag!=new",
        "-tag:new",
        "note:collapse title:beta",
        "policy.path:'Llama 3'",
        '"dpo-0412"',
        "status:paused loss:dpo train.lr>=1e-6 -name:test 0412",
        "-",
    ],
)
def test_lines_that_keep_the_run(line: str) -> None:
    assert parse_filter(line).matches(RUN.get)


@pytest.mark.parametrize(
    "line",
    [
        "0413",
        "dpo test",
        "status:running",
        "status=pause",
        "-status:paused",
        "-0412",
        "round>3",
        "round:13",
        "name~^0412",
        "reward>0.25",
        "train.lr>1e-6",
        "train.lr>=2e-6",
        "train.nothing:1",
        "tag=base",
        "tag!=paper",
        "-tag:paper",
        "tag:new",
        "name:test",
    ],
)
def test_lines_that_leave_the_run_out(line: str) -> None:
    assert not parse_filter(line).matches(RUN.get)


def test_what_is_missing_is_neither_more_nor_less() -> None:
    no_reward = {**RUN, "reward": None}
    assert not parse_filter("reward>0").matches(no_reward.get)
    assert not parse_filter("reward<=0").matches(no_reward.get)
    assert parse_filter("-reward>0").matches(no_reward.get)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("statsu:paused", "no field 'statsu', did you mean status?"),
        ("foo=1", "try name, title, tag, note, status, loss, stage, round, reward, train.lr"),
        ("status:", "'status:' needs a value after ':'"),
        ("round>", "needs a value after '>'"),
        ("round>=many", "'many' is no number"),
        ("name~(", "'(' is no pattern"),
        ("name:'x", "quotation mark that is not closed"),
    ],
)
def test_nonsense_is_refused_with_a_reason(line: str, said: str) -> None:
    with pytest.raises(UsageError, match=r".") as refused:
        parse_filter(line)
    assert said in str(refused.value)


def test_a_filter_names_the_settings_it_is_about() -> None:
    assert parse_filter("x status:paused train.lr>1 -train.loss.beta:0").settings == [
        "train.lr",
        "train.loss.beta",
    ]


def test_a_setting_is_found_by_its_path() -> None:
    settings = {"train": {"lr": 1, "loss": {"beta": 0.5}}, "name": "x"}
    assert setting_at(settings, "train.loss.beta") == 0.5
    assert setting_at(settings, "name") == "x"
    assert setting_at(settings, "train.loss.gamma") is None
    assert setting_at(settings, "name.x") is None
