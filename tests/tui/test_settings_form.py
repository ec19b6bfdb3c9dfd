"""The form of the settings: rows from the schema, edits, what the backend says, what it costs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import halos_backend
import pytest
from halos_backend.config.changes import change_settings
from halos_backend.config.schema import RunSettings
from halos_backend.config.shape import entry_table, tables_of
from halos_backend.config.table import Table
from halos_backend.errors import SettingsError, UsageError
from halos_backend.events import SettingsChanged
from halos_backend.findings import Finding
from halos_backend.settings_json import changed_last
from halos_backend.store.registry import load_state

from halos_tui.control.requests import take_back
from halos_tui.settings.form import SUBJECTS, Checked, SettingsForm, checked, places_of
from halos_tui.settings.rows import Row, find_rows, settings_rows, table_headings, text_of
from halos_tui.settings.rows_list import SettingsRows
from halos_tui.settings.tweaking import Tweak, describe_cost, why_fixed
from tests.support.made_run import STARTED_T, MadeRun, settings


def plain(**changes: Any) -> dict[str, Any]:
    return settings(**changes).model_dump(mode="json")


def form_of(base: Mapping[str, Any], **more: Any) -> SettingsForm:
    """A form whose edits change a run with these settings."""

    def check(assignments: Sequence[str]) -> Checked:
        if not assignments:
            return Checked(settings=base)

        def change() -> Checked:
            made = change_settings(base, assignments)
            return Checked(consequences=made.consequences, settings=made.settings)

        return checked(change)

    return SettingsForm(base, check, **more)


def row_of(form: SettingsForm, path: str) -> Row:
    return next(row for row in form.rows() if row.path == path)


def paths_of(form: SettingsForm) -> list[str]:
    return [row.path for row in form.rows()]


def schema_leaves(table: type[Table], path: str) -> Iterator[str]:
    """Dotted paths of plain values outside unions, by another way than the form's."""
    for name, about in table.model_fields.items():
        here = f"{path}{name}"
        inner = tables_of(about)
        if not inner and entry_table(about) is None:
            yield here
        elif len(inner) == 1 and about.default is not None and "kind" not in inner[0].model_fields:
            yield from schema_leaves(inner[0], f"{here}.")


# --- rows -----------------------------------------------------------------------------------


def test_every_setting_of_the_schema_has_a_row_with_its_own_help() -> None:
    rows = {row.path: row for row in settings_rows(plain())}

    leaves = list(schema_leaves(RunSettings, ""))
    assert len(leaves) > 60
    assert set(leaves) <= set(rows)
    assert rows["train.lr"].help == "Peak learning rate."
    assert all(row.help and row.takes for row in rows.values())


def test_values_are_what_one_would_type() -> None:
    rows = {row.path: row for row in settings_rows(plain())}

    assert rows["train.lr"].value == "5e-6"
    assert rows["loop.keep_best"].value == "true"
    assert rows["loop.keep_best"].choices == ("false", "true")
    assert rows["loop.num_prompts"].value == ""
    assert rows["sample.stop"].value == "[]"
    assert rows["loop.prompts_per_round"].default == "512"
    assert rows["policy.path"].is_required
    assert rows["launch.warm_workers"].choices == ("auto", "false", "true")
    assert rows["train.schedule"].choices == ("constant", "linear", "cosine")
    assert rows["train.lr"].choices == ()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("", '""'),
        ("text", "text"),
        ("1", '"1"'),
        (" a", '" a"'),
        ("a\nb", '"a\\nb"'),
        ("\x1b[2J", '"\\u001b[2J"'),
        (1e-6, "1e-6"),
        (True, "true"),
        ([1, 2], "[1, 2]"),
        ({"a": 1, "b": None}, "{a = 1}"),
    ],
)
def test_text_of_a_value(value: object, text: str) -> None:
    assert text_of(value) == text


def test_a_kind_shows_its_own_fields() -> None:
    form = form_of(plain())
    assert "train.loss.label_smoothing" not in paths_of(form)

    form.edit("train.loss.kind", "cdpo")

    assert row_of(form, "train.loss.label_smoothing").value == "0.2"
    form.edit("label.judge.kind", "reward_model")
    assert "label.judge.function" not in paths_of(form)
    assert row_of(form, "label.judge.path").is_required


def test_the_default_of_another_kind_is_its_own() -> None:
    form = form_of(plain())

    form.edit("train.loss.kind", "simpo")

    # dpo's 0.1 was its default, not chosen
    assert row_of(form, "train.loss.beta").value == "10.0"


def test_a_table_that_may_be_absent_is_switched_on_and_off() -> None:
    form = form_of(plain())
    assert row_of(form, "train.lora").value == "off"

    form.edit("train.lora", "on")
    form.edit("train.lora.r", "4")

    assert form.assignments == ("train.lora={}", "train.lora.r=4")
    made = form.view().checked.settings
    assert made is not None
    assert (made["train"]["lora"]["r"], made["train"]["lora"]["alpha"]) == (4, 32.0)
    other = form_of(made)
    other.edit("train.lora", "off")
    after = other.view().checked.settings
    assert after is not None
    assert after["train"]["lora"] is None
    form.reset("train.lora")
    assert form.assignments == ()


def test_a_new_guard_begins_with_what_it_needs_and_says_what_it_lacks() -> None:
    form = form_of(plain())
    guards = next(row for row in form.rows() if row.makes_entry)

    path = form.add_entry(guards.path, "kl")

    assert path == "guards.kl.metric"
    view = form.view()
    assert "has no limit" in view.problems[path]
    form.edit("guards.kl.metric", "kl_initial")
    form.edit("guards.kl.above", "10")
    assert form.view().problems == {}


def test_secrets_are_never_shown() -> None:
    base = plain()
    base["sample"]["vllm"]["arguments"] = {"hf_token": "hunter2", "max_num_seqs": 8}
    rows = {row.path: row for row in settings_rows(base)}

    hidden = rows["sample.vllm.arguments"]

    assert hidden.value == '{hf_token = "(hidden)", max_num_seqs = 8}'
    assert hidden.is_hidden
    assert not rows["sample.max_new_tokens"].is_hidden
    assert not any("hunter2" in row.value for row in rows.values())


def test_tables_have_headings_from_the_schema() -> None:
    headings = table_headings()

    assert headings["train"] == "Training the policy on the round's feedback."
    assert headings["train.loss"] == "What is minimized."


def test_a_search_looks_at_names_help_and_values() -> None:
    rows = settings_rows(plain())

    found = [row.path for row in find_rows(rows, "LEARNING rate")]

    assert found == ["train.lr", "train.schedule", "train.warmup_frac"]
    assert [row.path for row in find_rows(rows, "judge.py")] == ["label.judge.function"]


def test_the_best_hits_of_a_search_come_first_with_their_tables() -> None:
    rows = settings_rows(plain())

    # "already" has the letters too, in the help of other settings
    assert [row.path for row in find_rows(rows, "lr")] == ["train.lr"]
    prompt = [row.path for row in find_rows(rows, "prompt")]
    assert prompt[0] == "prompts.prompt"
    by_name, by_help = prompt.index("loop.num_prompts"), prompt.index("sample.group_size")
    assert prompt.index("prompts.path") < by_name < by_help
    assert find_rows(rows, "no such words") == []


@pytest.mark.parametrize(
    ("loss", "feedback", "strength"),
    [
        ("dpo", "pairwise", ["train.loss.beta"]),
        ("ipo", "pairwise", ["train.loss.tau"]),
        ("sft", "binary", []),
    ],
)
def test_what_is_often_changed_is_there_only_where_the_loss_has_it(
    loss: str, feedback: str, strength: list[str]
) -> None:
    view = form_of(plain(loss=loss, feedback=feedback), why_fixed=why_fixed).view()

    listed = SettingsRows().rows(view)

    assert listed[0] == "often changed"
    often = [row.path for row in listed if isinstance(row, Row) and row.is_often]
    assert often[: 1 + len(strength)] == ["train.lr", *strength]
    assert often[1 + len(strength) :] == [
        "loop.num_rounds",
        "loop.prompts_per_round",
        "sample.group_size",
        "sample.temperature",
        "loop.num_prompts",
    ]


DOCTORS = ("doctor/settings.py", "doctor/gpu.py", "stages/prepare/prepare.py")
ABOUT_THE_MACHINE = {"gpu"}


def test_every_finding_about_settings_has_a_row() -> None:
    """By what its text names, or else by its subject."""
    finding = Finding("warning", "batch", "too few", "raise loop.prompts_per_round, see a.b")
    by_subject = Finding("problem", "judge", "/a/judge.py: it raises")
    paths = [row.path for row in settings_rows(plain())]

    assert places_of(finding, paths) == ["loop.prompts_per_round"]
    assert places_of(by_subject, paths) == ["label.judge.function"]
    assert places_of(Finding("problem", "python", "too old"), paths) == []
    package = Path(halos_backend.__file__).parent
    made = re.compile(r'(?:Finding\(\s*"(?:warning|problem)",|_check\()\s*"([a-z ]+)"')
    subjects = {word for name in DOCTORS for word in made.findall((package / name).read_text())}
    assert len(subjects) > 10
    assert subjects - ABOUT_THE_MACHINE <= set(SUBJECTS)
    assert {path for places in SUBJECTS.values() for path in places} - set(paths) == {
        "label.judge.path", "label.judge.model"
    }  # fmt: skip


def test_what_was_learned_of_inputs_holds_until_its_setting_is_another() -> None:
    form = form_of(plain())
    about_prompts = Finding("problem", "prompts", "there are none")
    about_all = Finding("warning", "somewhere", "it may be slow")

    form.learn([about_prompts, about_all], form.view())

    assert form.view().findings == (about_prompts, about_all)
    assert form.view().found == {"prompts.path": (about_prompts,)}
    form.edit("train.lr", "1e-6")
    assert form.view().findings == (about_prompts,)
    form.edit("prompts.path", "/elsewhere")
    assert form.view().findings == ()


# --- edits ----------------------------------------------------------------------------------


def test_the_value_it_has_already_is_no_edit() -> None:
    form = form_of(plain())

    form.edit("train.lr", "1e-6")
    form.edit("train.lr", "5e-6")

    assert form.assignments == ()
    assert form.view().checked.settings == form.base


def test_an_edit_has_consequences_and_a_new_whole() -> None:
    form = form_of(plain())

    form.edit("train.lr", "1e-5")

    view = form.view()
    assert view.edited == {"train.lr"}
    assert view.now["train.lr"] == "5e-6"
    assert view.checked.settings is not None
    assert view.checked.settings["train"]["lr"] == 1e-5
    assert any("peak learning rate is 2 times" in said for said in view.checked.consequences)


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("train.lr", "fast", "takes a number above 0, not 'fast'"),
        ("train.lr", "-1", "takes a number above 0, not -1"),
        ("train.schedule", "linea", "did you mean 'linear'?"),
        ("sample.group_size", "1", "write 2 or more"),
        ("sample.stop", "[", "takes a list of texts"),
        ("policy.path", "/elsewhere", "fixed for the run's life"),
        ("label.judge.function", "/nowhere/judge.py:reward", "there is no /nowhere/judge.py"),
    ],
)
def test_what_is_wrong_is_said_in_the_backend_s_words(path: str, text: str, said: str) -> None:
    form = form_of(plain())

    form.edit(path, text)

    view = form.view()
    assert said in view.problems[path]
    assert view.checked.settings is None
    assert next(row for row in view.rows if row.path == path).value == text


def test_a_problem_of_a_list_s_entry_is_that_of_its_row() -> None:
    form = form_of(plain())

    form.edit("notify.on", '["paused", "sometimes"]')

    assert "sometimes" in form.view().problems["notify.on"]


def test_fixed_settings_say_why() -> None:
    form = form_of(plain(), why_fixed=why_fixed)

    assert "it is what the run trains" in row_of(form, "policy.path").fixed
    assert row_of(form, "train.lr").fixed == ""


def test_later_edits_do_not_reach_a_copy() -> None:
    form = form_of(plain())
    before = form.copy()

    form.edit("train.lr", "1e-6")

    assert before.assignments == ()


# --- tweaks ---------------------------------------------------------------------------------


def test_a_change_that_waits_already_is_what_the_form_begins_with(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, num_rounds=5, num_prompts=10)
    run.whole_round(1)
    run.start_round(2)
    changes = {"train.lr": (5e-6, 1e-6)}
    run.say(SettingsChanged(t=STARTED_T + 20, request_id="r1", from_round=3, changes=changes))

    tweak = Tweak(run.dir, load_state(run.dir))

    assert tweak.from_round == 3
    form = tweak.form()
    assert form.view().now["train.lr"] == "5e-6"
    assert row_of(form, "train.lr").value == "1e-6"
    assert form.assignments == ()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["train.lr=1e-6"], []),
        (["train.loss.kind=simpo"], []),
        (["train.loss.beta=10.0"], ["train.loss.kind=simpo"]),
        (["train.lora={r = 8}"], []),
        (["train.lora={r = 8}"], ["train.lora=default"]),
        (["loop.num_prompts=9"], ["loop.num_prompts=default"]),
    ],
)
def test_a_change_that_is_taken_back_leaves_the_settings_as_they_were(
    tmp_path: Path, first: list[str], second: list[str]
) -> None:
    """By the form and by the shell's word, which come to the same."""
    run = MadeRun(tmp_path, num_rounds=9)
    for round, assignments in enumerate(filter(None, [first, second]), start=1):
        change = change_settings(load_state(run.dir).settings_of(round), assignments)
        about = {"request_id": f"r{round}", "from_round": round}
        run.say(SettingsChanged(t=STARTED_T + round, changes=change.changes, **about))
    state = load_state(run.dir)
    held = state.settings_of(1) if second else run.settings
    tweak = Tweak(run.dir, state, chosen=5)
    form = tweak.form()
    path = (second or first)[0].partition("=")[0]

    for changed, last in changed_last(path, tweak.last_changes).items():
        form.put_back(changed, last.before)
    taken = take_back(state, [f"{path}=before"], 5)

    assert form.view().checked.settings == held
    assert change_settings(state.settings_of(5), taken.assignments).settings == held
    assert taken.from_round == 5
    assert "before round" in taken.said[0]


def test_settings_say_beside_them_what_can_be_taken_back(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, num_rounds=9)
    run.whole_round(1)
    for round, changes in (
        (2, {"train.lr": (5e-6, 1e-6), "loop.num_prompts": (None, 9)}),
        (6, {"loop.keep_best": (True, False)}),
    ):
        about = {"request_id": f"r{round}", "from_round": round}
        run.say(SettingsChanged(t=STARTED_T + round, changes=changes, **about))
    form = Tweak(run.dir, load_state(run.dir)).form()

    assert form.view().notes == {
        "train.lr": "5e-6 before round 2",
        "loop.num_prompts": "unset before round 2",
        "loop.keep_best": "false from round 6 on",
    }
    form.edit("train.lr", "5e-6")
    assert "train.lr is what it was before round 2" in form.view().checked.consequences


def test_a_change_that_waits_is_taken_back_from_its_own_round_on(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, num_rounds=9)
    changes = {"loop.keep_best": (True, False)}
    run.say(SettingsChanged(t=STARTED_T, request_id="r", from_round=6, changes=changes))
    state = load_state(run.dir)

    taken = take_back(state, ["loop.keep_best=before"])

    assert (taken.assignments, taken.from_round) == (("loop.keep_best=true",), 6)
    with pytest.raises(UsageError, match="waits for round 6, and the others are for round 1"):
        take_back(state, ["loop.keep_best=before", "train.lr=1e-6"])
    with pytest.raises(SettingsError, match="has not been changed"):
        take_back(state, ["loop.keep_best=before"], 5)
    assert take_back(state, ["train.reference='before'"]).said == ()


def test_the_command_is_what_one_would_type(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    tweak = Tweak(run.dir, load_state(run.dir), chosen=2)

    assert tweak.command(["train.lr=1e-6", "sample.stop=[]"]) == (
        f"halos-tui set a-run train.lr=1e-6 'sample.stop=[]' --from-round 2 --runs-dir {tmp_path}"
    )


def test_what_a_round_that_has_begun_did_already_is_refused_for_it(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, num_rounds=5, num_prompts=10)
    run.start_round(1)
    run.start_stage(1, "sample")
    run.finish_stage(1, "sample")
    tweak = Tweak(run.dir, load_state(run.dir), chosen=1)
    form = tweak.form()

    form.edit("sample.temperature", "1.0")

    assert "finished its sample stage already" in form.view().problems["sample.temperature"]
    form.reset("sample.temperature")
    form.edit("train.lr", "1e-6")
    assert form.view().problems == {}


# --- cost -----------------------------------------------------------------------------------


def test_twice_the_prompts_take_twice_the_time(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, num_rounds=5, num_prompts=10)
    run.whole_round(1)
    before, now = plain(num_rounds=5), plain(num_rounds=5)
    now["loop"]["prompts_per_round"] = 4

    said = describe_cost(load_state(run.dir), before, now)

    # three stages of 1.5 s each: 4.5 s, then 9 s
    assert said == [
        "a round has at most 4 pairs instead of 2",
        "a round takes about 5s more (9s instead of 5s), as the rounds so far went",
    ]


def test_more_epochs_cost_training_only(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, num_rounds=5, num_prompts=10)
    run.whole_round(1)
    before, now = plain(), plain()
    now["train"]["num_epochs"] = 11

    # 3 s and 11 times 1.5 s
    assert describe_cost(load_state(run.dir), before, now) == [
        "a round takes about 15s more (20s instead of 5s), as the rounds so far went"
    ]


def test_of_a_run_without_finished_stages_no_time_is_said(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    before, now = plain(), plain()
    now["sample"]["group_size"] = 8

    assert describe_cost(load_state(run.dir), before, now) == []


def test_another_loss_counts_something_else(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)

    said = describe_cost(load_state(run.dir), plain(), plain(loss="kto", feedback="binary"))

    assert said == ["a round has at most 4 completions instead of 2 pairs"]
