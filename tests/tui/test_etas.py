"""What is left of a stage, a round and a run, by hand-worked numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import pytest
from halos_backend.events import RunEvent, StageFinished, StageStarted
from halos_backend.store.state import RunState, fold
from msgspec.structs import replace

from halos_tui.formatting import rough_clock, rough_duration
from halos_tui.tracking.eta import (
    Estimate,
    Work,
    describe,
    forecast,
    from_marks,
    from_times,
    num_rounds_left,
    run_share,
    stage_left,
)
from tests.support.journals import created, round_finished, round_started, settings, supervised

PROCESS = supervised().process


def stage(round: int, name: str, elapsed_s: float | None) -> Iterator[RunEvent]:
    about = {"round": round, "stage": name, "attempt": 1}
    yield StageStarted(t=100.0, process=PROCESS, command=["true"], **about)
    if elapsed_s is not None:
        summary = {"num_prompts": 4, "num_completions": 8, "num_feedback": 4}
        yield StageFinished(t=101.0, elapsed_s=elapsed_s, summary=summary, **about)


def run_state(*times: tuple[float | None, ...], **loop: int | None) -> RunState:
    """Of rounds whose stages took so long; a round of three times is finished, None runs."""
    made = settings(**loop)
    events: list[RunEvent] = [created(made), supervised()]
    for round, stages in enumerate(times, 1):
        events.append(round_started(round, made))
        for name, elapsed_s in zip(("sample", "label", "train"), stages, strict=False):
            events += stage(round, name, elapsed_s)
        if len(stages) == 3 and None not in stages:
            events.append(round_finished(round))
    return fold(events)


def test_steady_progress_is_extended_at_its_rate_with_the_least_doubt() -> None:
    work = Work(elapsed_s=20.0, marks=((0.0, 0), (10.0, 30), (20.0, 60)), total=120)

    left = from_marks(work)

    # 60 units at 3 a second
    assert left == Estimate(pytest.approx(20.0), pytest.approx(0.05 * 20.0))


def test_uneven_progress_is_less_sure() -> None:
    work = Work(elapsed_s=20.0, marks=((0.0, 0), (10.0, 20), (20.0, 60)), total=120)

    left = from_marks(work)

    # rates 2 and 4: mean 3, standard deviation sqrt(2); two pieces known and two to come
    assert left is not None
    assert left.mean_s == pytest.approx(20.0)
    assert left.sd_s == pytest.approx(20.0 * (math.sqrt(2) / 3) * math.sqrt(1 / 2 + 1 / 2))
    assert left.low_s == pytest.approx(20.0 - 1.2816 * 9.42809, abs=1e-3)
    assert left.high_s == pytest.approx(20.0 + 1.2816 * 9.42809, abs=1e-3)


def test_a_single_piece_of_progress_gets_a_guessed_spread() -> None:
    left = from_marks(Work(elapsed_s=10.0, marks=((0.0, 0), (10.0, 20)), total=60))

    assert left == Estimate(20.0, 5.0)


@pytest.mark.parametrize(
    "marks, total",
    [
        ((), 10),
        (((0.0, 1),), 10),
        (((0.0, 1), (5.0, 1)), 10),
        (((0.0, 0), (5.0, 5)), 0),
        (((0.0, 0), (5.0, 9)), 100),
    ],
    ids=["none", "one", "no progress", "no total", "little of it"],
)
def test_without_progress_a_rate_says_nothing(
    marks: tuple[tuple[float, int], ...], total: int
) -> None:
    assert from_marks(Work(elapsed_s=5.0, marks=marks, total=total)) is None


def test_finished_stages_say_what_is_left_of_the_next() -> None:
    left = from_times([10.0, 14.0], elapsed_s=5.0)

    # mean 12; standard deviation sqrt(8); one more, of which the mean itself is unsure
    assert left is not None
    assert left.mean_s == pytest.approx(7.0)
    assert left.sd_s == pytest.approx(math.sqrt(8) * math.sqrt(1 + 1 / 2))


def test_a_stage_that_takes_longer_than_ever_has_nothing_left_by_its_history() -> None:
    left = from_times([10.0, 10.0], elapsed_s=30.0)

    assert left is not None
    assert (left.mean_s, left.low_s) == (0.0, 0.0)


def test_what_took_longer_than_ever_is_overdue_and_what_follows_is_a_least() -> None:
    late = stage_left(Work(elapsed_s=30.0, marks=((0.0, 0), (1.0, 999)), total=1000), [10.0, 10.0])

    assert late is not None
    assert describe(late) == "longer than expected"
    assert describe(late.then(Estimate(25.0, 1.0))) == "at least 25s"


def test_work_that_is_done_to_its_last_unit_is_not_said_to_end_at_once() -> None:
    assert from_marks(Work(elapsed_s=9.0, marks=((0.0, 0), (9.0, 20)), total=20)) is None


def test_of_two_sources_the_later_is_believed_and_their_distance_is_doubt() -> None:
    work = Work(elapsed_s=5.0, marks=((0.0, 0), (10.0, 30), (20.0, 60)), total=72)

    left = stage_left(work, [25.0, 25.0])

    # 12 units at 3 a second are 4 s; by history 20 s are left, give or take 5 % of 25 s
    assert left is not None
    assert left.mean_s == pytest.approx(20.0)
    assert left.sd_s == pytest.approx(math.hypot(0.05 * 25 * math.sqrt(1.5), 8.0))


def test_nothing_is_known_of_the_first_stage_before_it_has_progressed() -> None:
    state = run_state((None,))

    left = forecast(state, {(1, "sample"): Work(elapsed_s=3.0)})

    assert left.stages == {}
    assert left.round is None
    assert left.run is None


def test_the_first_round_is_open_ended() -> None:
    state = run_state((None,))
    work = Work(elapsed_s=10.0, marks=((0.0, 0), (10.0, 20)), total=60)

    left = forecast(state, {(1, "sample"): work})

    assert left.stages[1, "sample"] == Estimate(20.0, 5.0)
    assert left.round == Estimate(20.0, 5.0, is_open=True)
    assert describe(left.round) == "at least 20s"


def test_round_and_run_add_up_what_finished_rounds_took() -> None:
    state = run_state((10.0, 4.0, 6.0), (10.0, 4.0, 6.0), (10.0, None), num_rounds=5)

    left = forecast(state, {(3, "label"): Work(elapsed_s=1.0)})

    # label: 3 of 4 s, train: 6 s; then 2 of the 5 rounds of 20 s... of which 12 prompts leave none
    assert left.stages[3, "label"].mean_s == pytest.approx(3.0)
    assert left.round is not None
    assert left.round.mean_s == pytest.approx(9.0)
    assert left.run == left.round


def test_a_run_with_rounds_to_come_needs_their_time_too() -> None:
    state = run_state((10.0, 4.0, 6.0), (None,), num_rounds=3)

    left = forecast(state, {(2, "sample"): Work(elapsed_s=0.0)})

    # one known time each: 10 + 4 + 6 left of round 2, and one more round of 20
    assert left.run is not None
    assert left.run.mean_s == pytest.approx(40.0)
    parts = [0.25 * seconds * math.sqrt(2) for seconds in (10, 4, 6, 20)]
    assert left.run.sd_s == pytest.approx(math.hypot(*parts))


def test_a_run_whose_result_is_scored_needs_one_more_sample_and_label_stage() -> None:
    state = run_state((10.0, 4.0, 6.0), (None,), num_rounds=2)

    left = forecast(state, {(2, "sample"): Work(elapsed_s=0.0)})

    # 10 + 4 + 6 left of round 2, then 10 + 4 for the 4 prompts that no round has taken
    assert left.run is not None
    assert left.run.mean_s == pytest.approx(34.0)


@pytest.mark.parametrize(
    "loop, left",
    [({"num_rounds": 3}, 2), ({"num_rounds": 2}, 1), ({"num_rounds": None}, 2)],
    ids=["planned", "fewer", "as many as the 12 prompts give"],
)
def test_rounds_left_are_those_that_settings_and_prompts_allow(
    loop: dict[str, int | None], left: int
) -> None:
    assert num_rounds_left(run_state((None,), **loop)) == left


def test_a_run_that_does_not_work_has_no_estimates() -> None:
    state = replace(run_state((10.0, 4.0, 6.0), (None,)), status="paused")

    left = forecast(state, {(2, "sample"): Work(elapsed_s=0.0)})

    assert (left.stages, left.round, left.run) == ({}, None, None)


def test_a_round_of_other_size_counts_in_proportion() -> None:
    state = run_state((10.0, 4.0, 6.0), (None,))
    bigger = replace(state.rounds[1], num_prompts=8)
    state = replace(state, rounds=(state.rounds[0], bigger))

    left = forecast(state, {(2, "sample"): Work(elapsed_s=0.0)})

    assert left.stages[2, "sample"].mean_s == pytest.approx(20.0)


@pytest.mark.parametrize(
    "estimate, text",
    [
        (None, "-"),
        (Estimate(240.0, 46.8), "about 4m (3m-5m)"),
        (Estimate(240.0, 1.0), "about 4m"),
        (Estimate(40.0, 20.0, is_open=True), "at least 40s"),
        (Estimate(3.0, 9.0), "about 3s (0s-15s)"),
        (Estimate(0.3, 0.0), "less than 1s"),
        (Estimate(0.0, 2.0, is_open=True, is_overdue=True), "longer than expected"),
        (Estimate(25.0, 2.0, is_open=True, is_overdue=True), "at least 25s"),
    ],
)
def test_estimates_in_words(estimate: Estimate | None, text: str) -> None:
    assert describe(estimate) == text


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0s"),
        (8.4, "8s"),
        (43, "45s"),
        (57.4, "55s"),
        (57.5, "1m"),
        (100, "2m"),
        (59 * 60 + 20, "59m"),
        (59 * 60 + 40, "1h00m"),
        (2 * 3600 + 13 * 60, "2h10m"),
        (23 * 3600 + 56 * 60, "1d00h"),
        (4 * 86400 + 7 * 3600 + 120, "4d07h"),
    ],
)
def test_rough_durations(seconds: float, text: str) -> None:
    assert rough_duration(seconds) == text


def test_stages_at_the_same_time_are_not_added_up() -> None:
    state = run_state((10.0, 12.0, 6.0), (None, None), num_rounds=3, overlap=True)

    left = forecast(state, {(2, "sample"): Work(elapsed_s=4.0), (2, "label"): Work(elapsed_s=4.0)})

    # the longer of 10 - 4 and 12 - 4, and 6 of train; then a round of 12 + 6
    assert left.round is not None
    assert left.run is not None
    assert left.round.mean_s == pytest.approx(14.0)
    assert left.run.mean_s == pytest.approx(32.0)


def test_the_share_of_a_run_counts_stages_by_what_they_took() -> None:
    state = run_state((10.0, 4.0, 6.0), (10.0, None), num_rounds=3)
    work = Work(elapsed_s=1.0, marks=((0.0, 0), (1.0, 30)), total=60)

    # one round of 3, and of the next 10 s and half of 4 s out of 20 s
    assert run_share(state, {(2, "label"): work}) == pytest.approx((1 + 12 / 20) / 3)


def test_without_times_each_stage_is_a_third_of_a_round() -> None:
    state = run_state((5.0, None), num_rounds=2)

    assert run_share(state, {}) == pytest.approx((1 / 3) / 2)


def test_the_share_of_a_run_is_whole_once_its_rounds_are_done() -> None:
    assert run_share(run_state((1.0, 1.0, 1.0), num_rounds=1), {}) == 1.0
    assert run_share(run_state(num_rounds=1), {}) is None


@pytest.mark.parametrize(
    "after_s, text",
    [
        (120, "10:02"),
        (3 * 3600 + 60, "13:00"),
        (3 * 3600 + 240, "13:05"),
        (20 * 3600, "Sat 06:00"),
        (9 * 86400, "10 Jan"),
    ],
)
def test_the_end_is_told_as_a_time_of_day(
    after_s: float, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    now = 1_798_797_600.0  # Friday, 1 January 2027, 10:00 UTC
    try:
        assert rough_clock(now + after_s, now) == text
    finally:
        monkeypatch.undo()
        time.tzset()
