"""Differences of plain settings, and putting them in place."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from halos_backend.settings_json import (
    Change,
    LastChange,
    apply_changes,
    changed_last,
    diff,
    is_at_or_below,
    last_changes,
    leaves,
    settings_after,
    value_at,
)
from hypothesis import given
from hypothesis import strategies as st

SETTINGS: dict[str, Any] = {
    "loop": {"num_rounds": None, "prompts_per_round": 512},
    "train": {"lr": 5e-6, "lora": None, "loss": {"kind": "dpo", "beta": 0.1, "humanline": None}},
    "sample": {"stop": ["a"]},
    "guards": {"disk": {"below": 1.0}},
}


def changed(**values: Any) -> dict[str, Any]:
    """SETTINGS with values at paths, `__` for the dots."""
    result = copy.deepcopy(SETTINGS)
    for path, value in values.items():
        *parents, name = path.split("__")
        table = result
        for key in parents:
            table = table[key]
        table[name] = value
    return result


KTO = {"kind": "kto", "beta": 0.1, "humanline": None}
DPO = SETTINGS["train"]["loss"]

DIFFERENCES = [
    (changed(), {}),
    (changed(train__lr=1e-6), {"train.lr": (5e-6, 1e-6)}),
    (changed(train__loss__beta=0.2), {"train.loss.beta": (0.1, 0.2)}),
    (changed(loop__num_rounds=3), {"loop.num_rounds": (None, 3)}),
    (changed(sample__stop=["a", "b"]), {"sample.stop": (["a"], ["a", "b"])}),
    (changed(train__loss=KTO), {"train.loss": (DPO, KTO)}),
    (changed(train__lora={"r": 4}), {"train.lora": (None, {"r": 4})}),
    (changed(guards__kl={"above": 2}), {"guards.kl": (None, {"above": 2})}),
    (changed(guards__disk__below=2.0), {"guards.disk.below": (1.0, 2.0)}),
    (changed(guards={}), {"guards.disk": ({"below": 1.0}, None)}),
    (
        changed(train__lr=1.0, sample__stop=[]),
        {"train.lr": (5e-6, 1.0), "sample.stop": (["a"], [])},
    ),
]


@pytest.mark.parametrize(("new", "expected"), DIFFERENCES)
def test_a_difference_is_named_by_the_path_of_what_differs(
    new: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert diff(SETTINGS, new) == expected
    assert diff(new, SETTINGS) == {path: (b, a) for path, (a, b) in expected.items()}


def test_an_absent_key_is_as_good_as_a_null() -> None:
    assert diff({"a": None, "b": {"c": 1}}, {"b": {"c": 1, "d": None}}) == {}


def test_changes_are_put_in_place_and_the_settings_given_stay() -> None:
    before = json.dumps(SETTINGS)

    now = apply_changes(
        SETTINGS, {"train.lr": (5e-6, 1.0), "train.loss": (DPO, KTO), "guards.kl": (None, {})}
    )

    assert now == changed(train__lr=1.0, train__loss=KTO, guards__kl={})
    assert json.dumps(SETTINGS) == before
    assert now["sample"] is SETTINGS["sample"]


def test_a_change_below_what_is_no_table_makes_one() -> None:
    changes = {"train.lora.r": (None, 4), "new.table.key": (None, 1), "train.lr.peak": (None, 2)}

    now = apply_changes(SETTINGS, changes)

    assert now == {
        **changed(train__lora={"r": 4}, train__lr={"peak": 2}),
        "new": {"table": {"key": 1}},
    }


def test_a_later_change_of_one_path_meets_the_earlier_one() -> None:
    changes = {"train.loss": (DPO, KTO), "train.loss.beta": (0.1, 0.5)}
    assert apply_changes(SETTINGS, changes)["train"]["loss"] == {**KTO, "beta": 0.5}


TABLES = st.recursive(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 2) | st.lists(st.just(1), max_size=2)),
    lambda inner: st.dictionaries(
        st.sampled_from(["a", "b", "kind"]), inner | st.integers(0, 2), max_size=3
    ),
    max_leaves=12,
)


def without_nulls(settings: Any) -> Any:
    if not isinstance(settings, dict):
        return settings
    return {key: without_nulls(v) for key, v in settings.items() if v is not None}


@given(TABLES, TABLES)
def test_a_difference_put_in_place_gives_the_other_settings(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    assert without_nulls(apply_changes(old, diff(old, new))) == new
    assert diff(old, old) == {}


def test_a_value_is_found_by_its_path() -> None:
    assert value_at("train.loss.beta", SETTINGS) == 0.1
    assert value_at("train.loss.beta.zzz", SETTINGS) is None
    assert value_at("zzz.lr", SETTINGS) is None


def test_a_path_is_at_or_below_a_table() -> None:
    assert is_at_or_below("train.loss.beta", "train.loss")
    assert is_at_or_below("train.loss", "train.loss")
    assert not is_at_or_below("train.loss_scale", "train.loss")
    assert not is_at_or_below("train", "train.loss")


def test_what_a_setting_was_before_its_newest_change_is_what_held_until_then() -> None:
    changes = (
        Change(t=1.0, from_round=5, changes={"train.lr": (5e-6, 1e-6)}),
        Change(
            t=2.0, from_round=3, changes={"train.lr": (5e-6, 2e-6), "loop.num_rounds": (None, 9)}
        ),
        Change(t=3.0, from_round=4, changes={"train.loss": (DPO, KTO)}),
        Change(t=4.0, from_round=4, changes={"train.loss.beta": (0.1, 0.3)}),
    )
    last = last_changes(SETTINGS, changes)
    assert settings_after(SETTINGS, changes, 4)["train"]["lr"] == 2e-6
    assert last["train.lr"] == LastChange(3, 5, 2e-6)
    assert last["loop.num_rounds"] == LastChange(0, 3, None)
    assert changed_last("train.loss.beta", last) == {"train.loss.beta": LastChange(2, 4, 0.1)}
    assert changed_last("train.loss.kind", last) == {"train.loss": LastChange(1, 4, DPO)}
    assert changed_last("loop", last) == {"loop.num_rounds": LastChange(0, 3, None)}
    assert changed_last("sample.stop", last) == {}


def test_the_leaves_of_a_value_are_its_own_path_or_those_in_the_table() -> None:
    assert dict(leaves("train.lr", 1e-6)) == {"train.lr": 1e-6}
    assert dict(leaves("a", {"b": {"c": None, "d": {}}})) == {"a.b.c": None, "a.b.d": {}}
