"""The history of settings and the comparison of rounds: what they say, worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from halos_backend import clock
from halos_backend.events import (
    ForkOrigin,
    GuardTripped,
    RequestRejected,
    RunAborted,
    RunCreated,
    RunEvent,
    RunExtended,
    SettingsChanged,
    VersionsChanged,
)
from halos_backend.records import write_rows
from halos_backend.settings_json import apply_changes
from halos_backend.store import requests
from halos_backend.store.registry import load_state
from halos_backend.store.round_state import RoundState, StageState
from halos_backend.store.state import RunState, fold

from halos_tui.changes.comparison import (
    Comparison,
    Origin,
    compare,
    last_round,
    moved,
    usual_rounds,
)
from halos_tui.changes.entries import Entry, fate_of
from halos_tui.changes.page import ChangesPage, as_text, page_text, table, whole_text
from halos_tui.changes.reader import ChangesReader
from halos_tui.changes.results import Figure, Measure, Result, compare_results
from halos_tui.changes.view import ChangesQuery, ChangesView
from halos_tui.changes.wording import age, difference, relative, texts_of
from halos_tui.search_term import SearchTerm
from tests.support.changes_fixtures import change, steered_run
from tests.support.made_run import GROUPS, STARTED_T, MadeRun, write_round_files


@pytest.fixture
def run(tmp_path: Path) -> MadeRun:
    return steered_run(tmp_path / "runs")


def viewed(run: MadeRun, **query: Any) -> ChangesView:
    view = ChangesReader(run.dir, ChangesQuery(**query)).read()
    assert view is not None
    return view


def entries(run: MadeRun) -> tuple[Entry, ...]:
    return viewed(run).entries


def compared(run: MadeRun, older: int, newer: int) -> Comparison:
    return compare(load_state(run.dir), (older, newer))


# --- the history ----------------------------------------------------------------------------


def test_each_setting_of_a_change_is_an_entry_the_newest_first(run: MadeRun) -> None:
    run.whole_round(1)
    change(run, 2, train__lr=1e-6, sample__group_size=4)
    change(run, 3, by="", loop__num_rounds=9)

    assert [(e.from_round, e.by, e.what) for e in entries(run)] == [
        (3, "", "loop.num_rounds 5 -> 9"),
        (2, "alice@box", "sample.group_size 2 -> 4"),
        (2, "alice@box", "train.lr 5e-06 -> 1e-06"),
    ]
    newest, *_, oldest = entries(run)
    assert (newest.number, oldest.number) == (2, 0)
    assert oldest.consequences == ("it goes faster",)
    assert oldest.rounds == (1, 2)


def test_a_later_change_of_the_same_round_replaces_one(run: MadeRun) -> None:
    run.whole_round(1)
    change(run, 3, train__lr=1e-6, t=STARTED_T + 10)
    change(run, 4, train__lr=2e-6, t=STARTED_T + 20)
    change(run, 3, train__lr=3e-6, t=STARTED_T + 30)
    change(run, 3, train__lr=4e-6, t=STARTED_T + 40)
    change(run, 3, sample__group_size=4, t=STARTED_T + 50)

    found = {e.what.rpartition(" ")[2]: (e.fate, e.replaced_t) for e in entries(run)}
    assert found == {
        "1e-06": ("replaced", STARTED_T + 30),  # the first one that went over it
        "2e-06": ("waits", None),  # of another round
        "3e-06": ("replaced", STARTED_T + 40),
        "4e-06": ("waits", None),
        "4": ("waits", None),
    }


def test_a_change_of_a_whole_table_replaces_one_of_what_was_in_it(run: MadeRun) -> None:
    change(run, 2, train__loss__beta=0.5)
    change(run, 2, train__loss={"kind": "ipo", "tau": 0.1})
    change(run, 2, train__loss__tau=0.2)

    assert [(e.path, e.fate) for e in entries(run)] == [
        ("train.loss.tau", "waits"),
        ("train.loss", "waits"),  # but for its tau
        ("train.loss.beta", "replaced"),
    ]


def test_a_change_waits_holds_or_never_held(run: MadeRun) -> None:
    change(run, 1, train__lr=1e-6)
    change(run, 2, train__lr=2e-6)
    change(run, 5, train__lr=3e-6)
    change(run, 6, train__lr=4e-6)  # of 5
    assert [e.fate for e in entries(run)] == ["beyond", "waits", "waits", "waits"]
    run.whole_round(1)
    run.start_round(2)
    assert [e.fate for e in entries(run)] == ["beyond", "waits", "holds", "holds"]
    run.say(RunAborted(t=STARTED_T + 200, request_id="r"))

    found = entries(run)

    assert [e.fate for e in found] == ["unused", "unused", "holds", "holds"]
    assert fate_of(found[1]) == "never held: the run ended before round 5"


def test_a_refused_change_says_what_was_asked_by_whom_and_why_not(run: MadeRun) -> None:
    run.whole_round(1)
    for request_id, folder in (("filed", run.dir.answered), ("waiting", run.dir.control)):
        folder.mkdir(parents=True, exist_ok=True)
        request = requests.Set(
            request_id=request_id, by="bob@box", assignments=("train.lr=-1", "x=y"), from_round=3
        )
        (folder / f"1-{request_id}.json").write_bytes(msgspec.json.encode(request))
        run.say(RequestRejected(t=STARTED_T, request_id=request_id, reason="takes above 0"))

    found = entries(run)

    assert [(e.path, e.what) for e in found] == [("x", "x=y"), ("train.lr", "train.lr=-1")] * 2
    assert {(e.by, e.from_round, e.why, e.fate) for e in found} == {
        ("bob@box", 3, "takes above 0", "refused")
    }


def test_other_refused_requests_are_no_changes_unless_nobody_knows_what_they_were(
    run: MadeRun,
) -> None:
    requests.send(run.dir, requests.Pause(request_id="pause"))
    requests.send(run.dir, requests.Extend(request_id="extend", num_rounds=2, by="bob@box"))
    for request_id in ("pause", "extend", "unknown", ""):
        run.say(RequestRejected(t=STARTED_T, request_id=request_id, reason=f"no {request_id}"))

    assert [(e.what, e.why, e.by, e.from_round) for e in entries(run)] == [
        ("a request", "no ", "", 1),
        ("a request", "no unknown", "", 1),
        ("2 more rounds", "no extend", "bob@box", 1),
    ]


def test_guards_other_versions_and_more_rounds_are_in_the_history(run: MadeRun) -> None:
    run.whole_round(1)
    run.start_round(2)
    run.say(
        GuardTripped(
            t=STARTED_T,
            guard="kl",
            round=2,
            stage="train",
            metric="kl_initial",
            value=21.0,
            reason="kl_initial is 21, above 20",
            action="pause",
        ),
        GuardTripped(
            t=STARTED_T,
            guard="length",
            round=2,
            stage="sample",
            metric="length_mean",
            value=9.0,
            reason="it is longer",
            action="warn",
        ),
        VersionsChanged(t=STARTED_T, changes={"torch": ("2.1", "2.2")}),
        RunExtended(t=STARTED_T, request_id="a", num_rounds=7, changes={}, by="alice@box"),
        RunExtended(t=STARTED_T, request_id="b", num_rounds=9, changes={"loop.num_rounds": (7, 9)}),
    )

    assert [(e.verb, e.by, e.from_round, e.path, e.what, e.why) for e in entries(run)] == [
        ("extend", "", 3, "loop.num_rounds", "loop.num_rounds 7 -> 9", "extended to 9 rounds"),
        ("extend", "alice@box", 3, "", "extended to 7 rounds", ""),
        (
            "versions",
            "supervisor",
            2,
            "torch",
            "torch 2.1 -> 2.2",
            "the run goes on with other code than before",
        ),
        (
            "guard",
            "guard kl",
            2,
            "guards.kl",
            "pauses the run: kl_initial is 21, above 20",
            "looked at train of round 2",
        ),
    ]


def forked(run: MadeRun, name: str, *, round: int, **settings: Any) -> MadeRun:
    fork = MadeRun(run.dir.path.parent, name)
    created = RunCreated(
        t=STARTED_T,
        schema_version=1,
        run=name,
        version="0.1.0",
        settings=apply_changes(run.settings, {path: (None, v) for path, v in settings.items()}),
        num_prompts=4,
        num_too_long=0,
        prompts_sha256="p",
        policy_sha256="q",
        checkpoint_bytes=10,
        forked_from=ForkOrigin(run=run.dir.name, path=str(run.dir.path), round=round),
    )
    fork.dir.events.write_bytes(msgspec.json.encode(created) + b"\n")
    fork.settings = created.settings
    return fork


def test_a_fork_begins_with_what_differs_from_its_origin(run: MadeRun) -> None:
    run.whole_round(1)
    run.whole_round(2, reward_mean=0.25)
    changes: dict[str, Any] = {"train.lr": 1e-6, "policy.path": "/copy"}
    fork = forked(run, "b-run", round=2, **changes)
    fork.whole_round(1, reward_mean=1.0)

    (entry,) = entries(fork)

    assert (entry.verb, entry.from_round, entry.why) == ("fork", 1, "forked from a-run round 2")
    assert entry.what == "train.lr 5e-06 -> 1e-06"
    found = viewed(fork).found
    assert found is not None
    assert found.names == ("origin", "round 1")
    assert found.notes == ("KL is left out: that of each run is to its own first policy",)
    assert "KL to the start" not in {result.measure.name for result in found.results}
    assert found.settings == {"train.lr": (5e-6, 1e-6)}
    assert found.results[0].difference == 0.75  # of its reward and that of the round forked


def test_a_fork_whose_origin_is_gone_compares_with_what_it_was_created_with(run: MadeRun) -> None:
    run.whole_round(1)
    fork = forked(run, "b-run", round=3, **{"train.lr": 1e-6})
    fork.whole_round(1)

    (entry,) = entries(fork)

    assert entry.what == "forked from a-run round 3, with the same settings"
    found = viewed(fork).found
    assert found is not None and found.settings == {}
    assert found.results[0].older is None


def test_the_filter_looks_at_the_names_of_settings(run: MadeRun) -> None:
    change(run, 2, train__lr=1e-6, sample__group_size=4)

    view = viewed(run, term=SearchTerm("TRAIN", ignore_case=True))

    assert [e.path for e in view.entries] == ["train.lr"]
    assert view.num_entries == 2


# --- which rounds ---------------------------------------------------------------------------


def test_without_changes_the_newest_finished_round_is_compared_with_the_one_before(
    run: MadeRun,
) -> None:
    assert viewed(run).rounds is None
    run.start_round(1)
    assert viewed(run).rounds == (0, 1)
    run = MadeRun(run.dir.path.parent, "another")
    for round in (1, 2, 3):
        run.whole_round(round)
    assert viewed(run).rounds == (2, 3)
    run.start_round(4)
    assert viewed(run).rounds == (2, 3)


def test_the_rounds_around_a_change_are_compared_unless_others_are_wished_for(
    run: MadeRun,
) -> None:
    for round in (1, 2, 3):
        run.whole_round(round)
    change(run, 3, train__lr=1e-6)
    change(run, 9, train__lr=2e-6)

    assert viewed(run).rounds == (8, 9)
    assert viewed(run, number=0).rounds == (2, 3)
    assert viewed(run, number=0, rounds=(1, 3)).rounds == (1, 3)
    assert last_round(load_state(run.dir)) == 9
    assert usual_rounds(RunState(), None) is None


@pytest.mark.parametrize(
    ("before", "step", "after"),
    [
        ((2, 3), {"newer": 1}, (2, 4)),
        ((2, 4), {"newer": 1}, (2, 4)),  # the last one
        ((2, 3), {"newer": -1}, (2, 3)),  # never the older one itself
        ((2, 4), {"older": 1}, (3, 4)),
        ((3, 4), {"older": 1}, (3, 4)),
        ((0, 4), {"older": -1}, (0, 4)),
    ],
)
def test_rounds_are_moved_as_far_as_there_are_any(
    before: tuple[int, int], step: dict[str, int], after: tuple[int, int]
) -> None:
    assert moved(before, **step, last=4) == after


def test_where_no_round_has_begun_none_is_moved_to() -> None:
    assert moved((0, 1), newer=1, last=0) == (0, 1)


# --- what differs ---------------------------------------------------------------------------


def test_settings_of_two_rounds_are_compared(run: MadeRun) -> None:
    run.whole_round(1)
    change(run, 2, train__lr=1e-6)
    run.whole_round(2)
    change(run, 4, sample__group_size=8)

    assert compared(run, 1, 2).settings == {"train.lr": (5e-6, 1e-6)}
    assert compared(run, 2, 3).settings == {}
    assert compared(run, 3, 4).settings == {"sample.group_size": (2, 8)}  # still to come
    assert compared(run, 0, 1).names == ("created", "round 1")


def test_it_is_said_where_a_comparison_means_less_than_it_seems(run: MadeRun) -> None:
    run.whole_round(1)
    change(run, 2, train__lr=1e-6)
    run.start_round(2)
    run.finish_round(2, untrained="no feedback is left")
    run.start_round(3)

    assert compared(run, 1, 2).notes == (
        "round 2 was not trained: no feedback is left",
        "round 2 samples from the policy of round 1: what is changed in train shows in its reward"
        " from round 3 on",
    )
    assert compared(run, 1, 3).notes == ("round 3 is not finished yet",)
    assert compared(run, 1, 4).notes == (
        "round 4 has not begun: its settings are as far as they are known now",
    )


def results(run: MadeRun, older: int = 1, newer: int = 2) -> dict[str, Result]:
    return {result.measure.name: result for result in compared(run, older, newer).results}


def test_results_have_differences(run: MadeRun) -> None:
    run.whole_round(1)
    run.whole_round(2, reward_mean=0.75, num_pairs_kept=1)

    found = results(run)

    # a spread of 0.1 of 2 prompts: 0.1 / sqrt(1)
    reward = found["reward"]
    assert reward.newer is not None and reward.newer.stderr == pytest.approx(0.1)
    assert (reward.difference, reward.relative) == (0.25, 0.5)
    assert reward.stderr == pytest.approx(0.1414214)  # times sqrt(2)
    assert found["pairs kept"].difference == -1
    assert found["pairs kept"].relative == -0.5
    assert found["pairs kept"].significance is None
    assert found["sample time"].newer == Figure(1.5)
    assert "unique" not in found


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [
        (0.5, "within noise"),
        (0.78, "within noise"),  # 2 * sqrt(2) * 0.1 = 0.283
        (0.79, "more than noise"),
        (0.22, "within noise"),
        (0.21, "more than noise"),
    ],
)
def test_a_difference_is_noise_up_to_two_standard_errors(
    run: MadeRun, mean: float, verdict: str
) -> None:
    run.whole_round(1)
    run.whole_round(2, reward_mean=mean)

    assert results(run)["reward"].significance == verdict


def test_rewards_that_are_all_equal_have_no_noise(run: MadeRun) -> None:
    run.whole_round(1, reward_std=0.0)
    run.whole_round(2, reward_std=0.0, reward_mean=0.51)
    run.whole_round(3, reward_std=0.0, reward_mean=0.51)

    assert results(run)["reward"].significance == "more than noise"
    assert results(run, 2, 3)["reward"].significance == "within noise"


def test_a_round_whose_error_is_not_known_has_no_verdict(run: MadeRun) -> None:
    run.whole_round(1)
    run.whole_round(2, reward_stderr=None, reward_change_stderrs=[])

    found = results(run)["reward"]

    assert found.newer is not None and found.newer.stderr is None
    assert (found.stderr, found.significance) == (None, None)


def test_rounds_of_two_epochs_are_compared_prompt_by_prompt(tmp_path: Path) -> None:
    """The rows of both, in another order, with 0.25, 0.75, 1.0 and then 0.1 more of each."""
    run = steered_run(tmp_path, num_prompts=4)
    for round in (1, 2, 3):  # of 4 prompts, 2 a round: the third begins the second epoch
        run.whole_round(round, reward_mean=0.5 + round / 10, reward_stderr=0.25)
        write_round_files(run, round)
    more = [
        msgspec.structs.replace(
            group,
            completions=tuple(
                msgspec.structs.replace(row, reward=row.reward and row.reward + 0.1)
                for row in group.completions
            ),
        )
        for group in reversed(GROUPS)
    ]
    write_rows(run.dir.attempt(3, "label", 1).scores, more)

    view = viewed(run, rounds=(1, 3))
    assert view.found is not None
    paired = {result.measure.name: result for result in view.found.results}["reward"]
    assert paired.stderr == pytest.approx(0.0, abs=1e-12)
    assert paired.significance == "more than noise"
    view = viewed(run, rounds=(1, 2))
    assert view.found is not None
    apart = {result.measure.name: result for result in view.found.results}["reward"]
    assert apart.stderr == pytest.approx(0.3535534)  # .25 * sqrt(2)
    assert apart.significance == "within noise"


def a_round(**stages: dict[str, Any]) -> RoundState:
    return RoundState(
        round=1,
        cursor=0,
        num_prompts=2,
        settings={},
        started_t=0.0,
        stages={
            name: StageState(  # type: ignore[misc]
                stage=name,  # type: ignore[arg-type]
                status="finished",
                attempt=1,
                started_t=0.0,
                summary_json=msgspec.Raw(msgspec.json.encode(summary)),
            )
            for name, summary in stages.items()
        },
    )


def test_kl_has_the_error_that_its_stage_measured() -> None:
    older = a_round(train={"kl_initial": 0.5, "kl_initial_stderr": 0.3})
    newer = a_round(train={"kl_initial": 1.5, "kl_initial_stderr": 0.4})

    (kl,) = compare_results(older, newer)

    assert (kl.difference, kl.stderr, kl.significance) == (1.0, 0.5, "within noise")


def test_what_is_no_figure_is_left_out() -> None:
    """An external command may say anything in its summary."""
    odd = {"reward_mean": "high", "reward_std": None, "num_unscored": True, "margin_mean": [1]}
    huge = {"loss_last": 10**400, "loss_first": 1}
    later = a_round(label=odd, train={**huge, "kl_initial": math.inf})

    assert [result.measure.name for result in compare_results(None, later)] == ["loss, first"]
    assert compare_results(None, None) == ()


def test_only_finished_stages_have_results(run: MadeRun) -> None:
    run.whole_round(1)
    run.start_round(2)
    run.start_stage(2, "sample")

    assert {result.newer for result in compared(run, 1, 2).results} == {None}


# --- how it looks ---------------------------------------------------------------------------


KEYS = {"number": "it", "count": "num_it", "share": "it_frac", "time": "it_s", "size": "it_bytes"}


def result(unit: str, older: float | None, newer: float | None) -> Result:
    figures = [None if value is None else Figure(value) for value in (older, newer)]
    return Result(Measure("it", "train", KEYS[unit]), *figures)


@pytest.mark.parametrize(
    ("found", "change", "share"),
    [
        (result("number", 2.0, 2.5), "+0.50", "+25%"),
        (result("number", 5.8809, 5.8730), "-0.01", "-0.1%"),
        (result("number", 0.5, 0.5 + 1e-10), "0.000", ""),
        (result("number", 2e-4, 1e-4), "-0.0001", "-50%"),
        (result("number", -2.0, -3.0), "-1", "-50%"),
        (result("number", 0.0, 3.0), "+3", ""),
        (result("number", 3.0, 3.0), "0", ""),
        (result("number", None, 3.0), "-", ""),
        (result("number", 1.0, 12.0), "+11", "+1,100%"),
        (result("count", 1000, 2500), "+1,500", "+150%"),
        (result("share", 0.25, 0.125), "-12.5 pp", ""),
        (result("time", 60.0, 125.0), "+1m05s", "+108%"),
        (result("time", 4.0, 4.04), "0", ""),
        (result("share", 0.0225, 0.0234), "+0.1 pp", ""),
        (result("size", 2048, 1024), "-1 KiB", "-50%"),
        (result("size", 415 * 2**20, 419.3 * 2**20), "+4 MiB", "+1.0%"),
    ],
)
def test_a_difference_is_worded_in_its_unit(found: Result, change: str, share: str) -> None:
    assert difference(found) == change
    assert relative(found) == share


def test_figures_and_their_difference_are_equally_exact() -> None:
    reward = Measure("reward", "label", "reward_mean")
    found = Result(reward, Figure(-0.9386, 0.1584), Figure(0.7, 0.16))
    # hypot(0.1584, 0.16)
    assert texts_of(found) == ("-0.94 ±0.16", "0.70 ±0.16", "+1.64 ±0.23")
    assert texts_of(found, has_errors=False) == ("-0.94", "0.70", "+1.64")

    shares = Result(reward, Figure(0.5, 0.12, is_share=True), Figure(0.8, 0.12, is_share=True))
    assert texts_of(shares) == ("50% ±12%", "80% ±12%", "+30 ±17 pp")


def test_an_age_is_in_whole_minutes() -> None:
    now = STARTED_T
    found = [age(now - passed_s, now) for passed_s in (-5, 0, 59, 60, 150, 7200, 200_000)]
    assert found == ["<1m", "<1m", "<1m", "1m", "2m", "2h00m", "2d08h"]


def test_the_table_leaves_out_what_there_is_no_room_for(run: MadeRun) -> None:
    run.whole_round(1)
    run.whole_round(2, reward_mean=0.75)
    found = compared(run, 1, 2)

    def first_lines(width: int, **more: bool) -> list[str]:
        return [
            " ".join(line.split())
            for line in table(found.results, found.names, width=width, **more)
        ][:2]

    assert first_lines(80) == [
        "results round 1 round 2 change %",
        "reward 0.50 ±0.10 0.75 ±0.10 +0.25 ±0.14 +50%",
    ]
    assert first_lines(80, is_ascii=True)[1] == "reward 0.50+-0.10 0.75+-0.10 +0.25+-0.14 +50%"
    assert first_lines(58) == [
        "results round 1 round 2 change",
        "reward 0.50 ±0.10 0.75 ±0.10 +0.25 ±0.14",
    ]
    assert first_lines(40)[1] == "reward 0.50 0.75 +0.25"


def test_the_points_of_a_column_stand_below_each_other(run: MadeRun) -> None:
    run.whole_round(1)
    run.whole_round(2, reward_mean=0.75, num_pairs_kept=1200)
    found = compared(run, 1, 2)

    head, *rows = table(found.results, found.names, width=80)

    start, end = head.index("round 1") + len("round 1"), head.index("round 2") + len("round 2")
    cells = [row[start:end] for row in rows]
    points = {cell.index(".") for cell in cells if "." in cell}
    wholes = {len(cell.rstrip()) for cell in cells if cell.strip().replace(",", "").isdecimal()}
    assert points == wholes and len(points) == 1


def page_of(found: Comparison | None, width: int, **more: Any) -> str:
    return as_text(ChangesPage(width, STARTED_T + 700, **more).lines(found, None))


def test_settings_stand_beside_results_where_there_is_room(run: MadeRun) -> None:
    run.whole_round(1)
    change(run, 2, train__lr=1e-6)
    run.whole_round(2, reward_mean=0.9)
    found = compared(run, 1, 2)

    wide, narrow = page_of(found, 120), page_of(found, 60)

    (line,) = (line for line in wide.splitlines() if line.startswith("1 setting differs"))
    assert "│ reward +0.40: more than noise" in line
    assert "\n1 setting differs\n  train.lr  5e-06 -> 1e-06\n\nreward +0.40: more" in narrow
    assert "the spread of its prompts' means over sqrt(prompts)" in narrow.replace("\n", " ")
    assert all(len(line) <= 60 for line in narrow.splitlines())
    assert page_of(found, 120, is_ascii=True).isascii()


def test_a_long_value_is_cut_on_the_screen_and_whole_when_it_is_taken_out(run: MadeRun) -> None:
    change(run, 1, policy__chat_template="x" * 5000)
    view = viewed(run, width=80)

    shown, taken = as_text(view.lines), page_text(view)

    # the value and the change that has it in its text: 5,000 and 5,029 characters
    assert "... (3,000 more characters)" in shown
    assert shown.replace("\n", "").count("x") < 4100
    assert taken.count("unset -> " + "x" * 5000) == 2
    assert whole_text(view, "a-run").startswith("a-run: 1 change\nwhen")


def test_the_page_of_a_change_says_all_about_it(
    run: MadeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now", lambda: STARTED_T + 820)
    run.whole_round(1)
    change(run, 2, train__lr=1e-6, t=STARTED_T + 100)
    change(run, 2, train__lr=2e-6, t=STARTED_T + 700)

    text = as_text(viewed(run, number=0).lines)

    assert text.startswith("train.lr 5e-06 -> 1e-06\nfrom round 2, set by alice@box, 20")
    assert "(12m ago)\nreplaced by the change of 20" in text
    assert "\n  it goes faster\n" in text


def test_nothing_to_compare_is_said(run: MadeRun) -> None:
    assert as_text(viewed(run).lines) == "no round has begun: there is nothing to compare yet\n"
    run.start_round(1)
    text = as_text(viewed(run).lines)
    assert "created -> round 1  created: the settings that the run was created with" in text
    assert "no setting differs\n\nneither round has results yet" in text


def test_a_view_that_is_the_same_is_not_given_again(
    run: MadeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = STARTED_T
    monkeypatch.setattr(clock, "now", lambda: now)
    change(run, 2, train__lr=1e-6)
    reader = ChangesReader(run.dir, ChangesQuery())
    assert reader.read() is not None
    assert reader.read() is None
    now += 59
    assert reader.read() is None
    now += 1  # another minute, another age
    assert reader.read() is not None
    run.start_round(1)
    assert reader.read() is not None


def test_a_state_after_a_change_is_that_of_the_fold() -> None:
    """What the reader shows of settings is what the supervisor goes by."""
    events: list[RunEvent] = [
        SettingsChanged(t=1.0, request_id="a", from_round=2, changes={"a.b": (1, 2)})
    ]
    state = fold(events, RunState(settings={"a": {"b": 1}}))

    assert compare(state, (1, 2), Origin("", None)).settings == {"a.b": (1, 2)}
