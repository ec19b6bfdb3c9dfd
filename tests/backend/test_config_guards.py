"""Guards in run files, overrides, changes and the files of `init`; the command of notify."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from halos_backend.config.changes import change_settings
from halos_backend.config.guards import DEFAULT_GUARDS, Guard
from halos_backend.config.load import load_settings, parse_settings
from halos_backend.config.presets import init_file
from halos_backend.config.schema import RunSettings
from halos_backend.config.toml_text import dump_toml
from halos_backend.errors import SettingsError

MINIMAL = """
[policy]
path = "some-org/policy"
[prompts]
path = "some-org/prompts"
[label.judge]
kind = "reward_model"
path = "some-org/judge"
[label.feedback]
kind = "pairwise"
[train.loss]
kind = "dpo"
"""
KL = '[guards.kl]\nmetric = "kl_initial"\nabove = 10\naction = "abort"\n'
METRICS = (
    "'loss_last', 'kl_initial', 'reward_mean', 'unscored_frac', 'length_mean', 'truncated_frac',"
    " 'unique_frac',"
    " 'reward_length_corr', 'disk_free_bytes' or 'disk_free_rounds'"
)


def load(text: str = "", *overrides: str) -> RunSettings:
    return parse_settings(tomllib.loads(MINIMAL + text), source="run.toml", overrides=overrides)


def problems(text: str = "", *overrides: str) -> dict[str, str]:
    """Path -> reason of everything that is refused."""
    with pytest.raises(SettingsError) as caught:
        load(text, *overrides)
    assert "pydantic" not in str(caught.value)
    found = dict(caught.value.problems)
    assert len(found) == len(caught.value.problems), "a path is named twice"
    return found


# The guards of a file and the default ones


def test_a_file_without_guards_has_the_default_ones() -> None:
    assert load().guards == DEFAULT_GUARDS
    assert load("[guards]\n").guards == DEFAULT_GUARDS


def test_a_guard_of_the_file_stands_beside_the_default_ones() -> None:
    kl = Guard(metric="kl_initial", above=10, action="abort")
    assert load(KL).guards == {**DEFAULT_GUARDS, "kl": kl}


def test_a_part_of_a_default_guard_changes_only_that() -> None:
    disk = load('[guards.disk]\naction = "off"\n').guards["disk"]
    assert disk == Guard(metric="disk_free_rounds", below=1.0, action="off")
    disk = load('[guards.disk]\nmetric = "disk_free_rounds"\nbelow = 3\n').guards["disk"]
    assert disk == Guard(metric="disk_free_rounds", below=3.0)


def test_a_default_guards_name_with_another_metric_is_a_guard_of_its_own() -> None:
    disk = load('[guards.disk]\nmetric = "kl_initial"\nabove = 5\n').guards["disk"]
    assert disk == Guard(metric="kl_initial", above=5.0)
    assert set(problems('[guards.disk]\nmetric = "disk_free_bytes"\n')) == {"guards.disk"}


def test_resolved_settings_have_the_guards_as_tables() -> None:
    settings = load(KL)
    resolved = json.loads(settings.model_dump_json())
    assert resolved["guards"]["kl"] == {
        "metric": "kl_initial",
        "above": 10.0,
        "below": None,
        "drop_frac": None,
        "not_finite": False,
        "action": "abort",
    }
    assert parse_settings(resolved, source="again") == settings
    assert parse_settings(tomllib.loads(dump_toml(settings)), source="written") == settings


# Overrides


def test_overrides_reach_into_guards_of_the_file_and_default_ones() -> None:
    guards = load(KL, "guards.kl.above=20", "guards.disk.below=3").guards
    assert guards["kl"] == Guard(metric="kl_initial", above=20, action="abort")
    assert guards["disk"] == Guard(metric="disk_free_rounds", below=3)


def test_overrides_make_a_guard_that_is_not_there() -> None:
    guards = load("", "guards.kl.above=.5", "guards.kl.metric=kl_initial").guards
    assert guards["kl"] == Guard(metric="kl_initial", above=0.5)
    assert load("", "guards.kl={metric='kl_initial', above=2}").guards["kl"].above == 2


def test_default_takes_a_guard_or_its_key_out() -> None:
    text = KL + "[guards.disk]\nbelow = 3\n"
    assert load(text, "guards.kl=default", "guards.disk=default").guards == DEFAULT_GUARDS
    assert load(text, "guards.disk.below=default").guards["disk"] == DEFAULT_GUARDS["disk"]
    assert load(KL, "guards.kl.action=default").guards["kl"].action == "pause"
    assert set(problems(KL, "guards.kl.above=default")) == {"guards.kl"}


# What is refused

WRONG_GUARDS = [
    ("[guards.kl]\nabove = 10\n", "guards.kl.metric",
     f"is missing: write metric = {METRICS} (The number that is watched)"),
    ('[guards.kl]\nmetric = "kl"\nabove = 1\n', "guards.kl.metric", f"takes {METRICS}, not 'kl'"),
    ('[guards.kl]\nmetric = "kl_inital"\nabove = 1\n', "guards.kl.metric",
     f"takes {METRICS}, not 'kl_inital'; did you mean 'kl_initial'?"),
    (KL + "abov = 3\n", "guards.kl.abov", "unknown key; did you mean 'above'?"),
    (KL + "lr = 3\n", "guards.kl.lr", "unknown key here; did you mean 'train.lr'?"),
    (KL + "zzz = 3\n", "guards.kl.zzz",
     "unknown key; the names here are metric, above, below, drop_frac, not_finite, action"),
    (KL + 'below = "1"\n', "guards.kl.below", "takes a number, not '1'"),
    (KL + "below = true\n", "guards.kl.below", "takes a number, not true"),
    (KL + "below = nan\n", "guards.kl.below", "takes a number, not nan"),
    (KL + "below = -inf\n", "guards.kl.below", "takes a number, not -inf"),
    (KL + "drop_frac = 1.5\n", "guards.kl.drop_frac",
     "takes a number of at least 0 and at most 1, not 1.5"),
    (KL + "not_finite = 1\n", "guards.kl.not_finite", "takes true or false, not 1"),
    ('[guards.disk]\naction = "stop"\n', "guards.disk.action",
     "takes 'pause', 'abort', 'warn' or 'off', not 'stop'"),
    ('[guards]\nkl = "kl_initial"\n', "guards.kl",
     "is a table: write [guards.kl], not 'kl_initial'"),
    ("[guards]\ndisk = false\n", "guards.disk", "is a table: write [guards.disk], not false"),
    (KL.replace("kl]", "Kl]"), "guards.Kl",
     "is no name: write small letters, digits and _, beginning with a letter"),
    (KL.replace("kl]", "my-kl]"), "guards.my-kl",
     "is no name: write small letters, digits and _, beginning with a letter"),
    (KL.replace("kl]", "1kl]"), "guards.1kl",
     "is no name: write small letters, digits and _, beginning with a letter"),
    (KL.replace("kl]", "'a.b']"), "guards.a.b",
     "is no name: write small letters, digits and _, beginning with a letter"),
    ('[guards.kl]\nmetric = "kl_initial"\n', "guards.kl",
     "has no limit, so it would never trip: write above, below, drop_frac or not_finite"
     " (or action = 'off')"),
    (KL + "below = 12\n", "guards.kl.above",
     "every number is above 10 or below 12, so the guard would always trip: write more than 12"),
    (KL + "below = 10\n", "guards.kl.above",
     "every number is above 10 or below 10, so the guard would always trip: write more than 10"),
    ("[guards.disk]\ndrop_frac = 0.5\n", "guards.disk.drop_frac",
     "disk_free_rounds has no best value to fall from: take the line out, and write below"),
    ("[guards.disk]\nnot_finite = true\n", "guards.disk.not_finite",
     "disk_free_rounds is always finite: take the line out"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "reason"), WRONG_GUARDS)
def test_a_wrong_guard_is_refused_by_path_and_in_words(text: str, path: str, reason: str) -> None:
    assert problems(text) == {path: reason}


@pytest.mark.parametrize("value", ["3", "[]", "off"])
def test_guards_are_tables_and_nothing_else(value: str) -> None:
    (reason,) = problems("", f"guards={value}").values()
    assert reason.startswith("holds tables: write [guards.NAME], not ")


def test_all_problems_of_guards_are_said_at_once() -> None:
    text = '[guards.a]\nabove = "x"\n[guards.b]\nmetric = "no"\n[guards.C]\nmetric = "loss_last"\n'
    found = problems(text, "train.lr=0", "guards.disk.belo=1")
    assert set(found) == {
        "guards.a.above",
        "guards.a.metric",
        "guards.b.metric",
        "guards.C",
        "guards.disk.belo",
        "train.lr",
    }


def test_a_mistyped_key_that_is_taken_out_is_answered_too() -> None:
    found = problems(KL, "guards.kl.abov=default")
    assert found == {"guards.kl.abov": "unknown key; did you mean 'above'?"}


def test_a_guards_key_that_stands_elsewhere_is_shown_its_place() -> None:
    assert problems("", "loop.drop_frac=1") == {
        "loop.drop_frac": "unknown key here; did you mean 'guards.NAME.drop_frac'?"
    }


def test_a_guard_that_is_off_may_be_unfinished() -> None:
    assert load('[guards.kl]\nmetric = "kl_initial"\naction = "off"\n').guards["kl"].above is None


# Changes of a run


def running() -> dict[str, Any]:
    """Resolved settings."""
    resolved: dict[str, Any] = json.loads(load("[launch]\nnum_threads = 1\n").model_dump_json())
    return resolved


def test_a_default_guard_is_changed_in_mid_run() -> None:
    change = change_settings(running(), ["guards.disk.below=2"])
    assert change.changes == {"guards.disk.below": (1.0, 2.0)}


@pytest.mark.parametrize(
    ("override", "path"),
    [
        ("guards.disk.below=", "guards.disk.below"),
        ("guards.new.above=3", "guards.new.metric"),
        ("guards.No.metric=loss_last", "guards.No"),
    ],
)
def test_a_change_to_a_guard_that_cannot_be_is_refused(override: str, path: str) -> None:
    with pytest.raises(SettingsError) as caught:
        change_settings(running(), [override])
    assert [found for found, _ in caught.value.problems] == [path]


# Files of init


def test_a_file_of_init_shows_the_default_guards_and_one_more() -> None:
    text = init_file("dpo")
    assert tomllib.loads(text)["guards"] == {
        "non_finite_loss": {"metric": "loss_last", "not_finite": True, "action": "pause"},
        "disk": {"metric": "disk_free_rounds", "below": 1.0},
        "unscored": {"metric": "unscored_frac", "above": 0.25},
    }
    example = text[text.index("#[guards.kl]") :].split("\n\n")[0]
    live = "\n".join(line.removeprefix("#") for line in example.splitlines())
    assert load(live).guards["kl"] == Guard(metric="kl_initial", above=10)


# Notify


def test_a_program_beside_the_run_file_is_found_from_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(MINIMAL + '[notify]\ncommand = ["./tell.sh", "./me"]\n')
    assert load_settings(path).notify.command == (f"{tmp_path}/tell.sh", "./me")
    settings = load_settings(path, ["notify.command=['mail', 'me@example.org']"])
    assert settings.notify.command == ("mail", "me@example.org")


WRONG_NOTIFY: list[tuple[str, str, str]] = [
    ("notify.command=mail", "notify.command", "takes a list of texts, not 'mail'"),
    ("notify.command=['bin/tell']", "notify.command",
     "'bin/tell' is looked for by a supervisor that works elsewhere: write a program's name or its"
     " absolute path first"),
    ("notify.on=['pause']", "notify.on[0]",
     "takes 'paused', 'failed', 'guard' or 'completed', not 'pause'; did you mean 'paused'?"),
    ("notify.on=[3]", "notify.on[0]",
     "has to be 'paused', 'failed', 'guard' or 'completed', not 3"),
    ("notify.on=paused", "notify.on",
     "takes a list of 'paused', 'failed', 'guard' or 'completed', not 'paused'"),
    ("notify.timeout_s=0", "notify.timeout_s", "takes a number above 0, not 0"),
    ("launch.devices=x", "launch.devices", "takes a list of whole numbers, not 'x'"),
    ("launch.devices=['x']", "launch.devices[0]",
     "has to be a whole number of at least 0, not 'x'"),
]  # fmt: skip


@pytest.mark.parametrize(("override", "path", "reason"), WRONG_NOTIFY)
def test_wrong_lists_are_refused_in_words(override: str, path: str, reason: str) -> None:
    assert problems("", override) == {path: reason}


def test_an_empty_program_is_refused() -> None:
    assert set(problems("", "notify.command=['']")) == {"notify.command"}
