"""Which guards trip at a stage that ended and before a round, and how that is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from halos_backend.config.guards import DEFAULT_GUARDS, Guard, GuardMetric
from halos_backend.config.schema import RunSettings
from halos_backend.events import Cause, GuardTripped, RoundStarted, RunEvent, Stage
from halos_backend.store.manifest import read_done, write_done
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState, apply, fold
from halos_backend.supervisor.guards import (
    STAGE_OF_METRIC,
    DiskRoom,
    check_disk,
    check_stage,
    measure_disk,
)

from tests.support.journals import (
    created,
    failed,
    finished,
    round_finished,
    round_started,
    settings,
    started,
    supervised,
)

NOW = 99.0
GIB = 1 << 30


def guarded(**guards: Guard) -> RunSettings:
    return settings().model_copy(update={"guards": guards})


def rounds_of(stage: Stage, *summaries: dict[str, Any]) -> RunState:
    """Rounds in which only this stage ran, with these summaries."""
    return fold(_rounds(stage, summaries))


def _rounds(stage: Stage, summaries: tuple[dict[str, Any], ...]) -> Iterator[RunEvent]:
    yield from (created(settings()), supervised())
    for number, summary in enumerate(summaries, start=1):
        yield round_started(number, settings())
        yield started(number, stage)
        yield finished(number, stage, **summary)
        if number < len(summaries):
            yield round_finished(number)


def trips(metric: GuardMetric, *values: Any, **limits: Any) -> list[str]:
    """Reasons of one guard, of this metric, at the last of rounds with these values."""
    stage = STAGE_OF_METRIC[metric]
    state = rounds_of(stage, *({metric: value} for value in values))
    made = guarded(g=Guard(metric=metric, **limits))
    return [trip.reason for trip in check_stage(state, len(values), stage, made, now=NOW)]


def test_a_trip_names_guard_value_limit_and_action() -> None:
    state = rounds_of("train", {"kl_initial": 12.3})
    made = guarded(kl=Guard(metric="kl_initial", above=10, action="abort"))
    assert check_stage(state, 1, "train", made, now=NOW) == [
        GuardTripped(
            t=NOW,
            guard="kl",
            round=1,
            stage="train",
            metric="kl_initial",
            value=12.3,
            reason="kl_initial is 12.3, above 10 (guard kl)",
            action="abort",
        )
    ]


@pytest.mark.parametrize("metric", STAGE_OF_METRIC)
def test_every_metric_of_a_stage_can_be_guarded(metric: GuardMetric) -> None:
    assert trips(metric, 0.75, above=0.5) == [f"{metric} is 0.75, above 0.5 (guard g)"]
    assert trips(metric, 0.25, below=0.5) == [f"{metric} is 0.25, below 0.5 (guard g)"]
    assert trips(metric, 0.5, above=0.5) == []
    assert trips(metric, 0.5, below=0.5) == []


def test_a_guard_looks_at_its_own_stage_only() -> None:
    state = rounds_of("label", {"reward_mean": 0.1, "loss_last": 9.0})
    made = guarded(
        loss=Guard(metric="loss_last", above=1), reward=Guard(metric="reward_mean", below=0.2)
    )
    assert [trip.guard for trip in check_stage(state, 1, "label", made, now=NOW)] == ["reward"]


def test_a_guard_of_several_limits_trips_once() -> None:
    assert len(trips("kl_initial", 0.5, 12.0, above=10, drop_frac=0.0)) == 1


def test_a_guard_that_is_off_never_trips_and_one_that_warns_does() -> None:
    assert trips("kl_initial", 12.0, above=10, action="off") == []
    assert len(trips("kl_initial", 12.0, above=10, action="warn")) == 1


@pytest.mark.parametrize("value", [None, "a text"])
def test_a_figure_without_meaning_breaks_no_limit(value: object) -> None:
    assert trips("reward_length_corr", value, above=0.0, below=0.0, not_finite=True) == []


def test_a_drop_is_a_share_of_the_best_of_earlier_rounds() -> None:
    # from 0.8 to 0.4 is half of it
    assert trips("reward_mean", 0.5, 0.8, 0.4, drop_frac=0.5) == []
    assert trips("reward_mean", 0.5, 0.8, 0.375, drop_frac=0.5) == [
        "reward_mean is 0.375, more than 50 % under the best so far, 0.8 (guard g)"
    ]
    assert trips("reward_mean", 0.1, drop_frac=0.0) == []
    assert trips("reward_mean", None, 0.1, drop_frac=0.0) == []
    assert trips("length_mean", 100.0, 60.0, drop_frac=0.3) != []
    assert trips("kl_initial", 2.0, 0.5, drop_frac=0.5) != []


def test_a_drop_from_a_best_of_zero_or_less_is_a_drop_too() -> None:
    assert trips("reward_mean", -1.0, -1.25, drop_frac=0.5) == []
    assert trips("reward_mean", -1.0, -1.625, drop_frac=0.5) != []
    assert trips("reward_mean", 0.0, 0.0, drop_frac=0.5) == []
    assert trips("reward_mean", 0.0, -0.1, drop_frac=0.5) != []


def test_a_reward_of_another_judge_is_no_best_to_fall_from() -> None:
    events = list(_rounds("label", ({"reward_mean": 90.0}, {"reward_mean": 0.5})))
    plain = settings().model_dump(mode="json")
    plain["label"]["judge"]["function"] = "other.py:reward"
    events = [
        msgspec.structs.replace(event, settings=plain)
        if isinstance(event, RoundStarted) and event.round == 2
        else event
        for event in events
    ]
    made = guarded(g=Guard(metric="reward_mean", drop_frac=0.5))
    assert check_stage(fold(events), 2, "label", made, now=NOW) == []


def test_a_reward_of_another_engine_is_the_same_judges() -> None:
    """An older run's rounds do not even name one."""
    events = list(_rounds("label", ({"reward_mean": 90.0}, {"reward_mean": 0.5})))
    plain = settings().model_dump(mode="json")
    plain["label"]["judge"]["engine"] = "vllm"
    events = [
        msgspec.structs.replace(event, settings=plain)
        if isinstance(event, RoundStarted) and event.round == 2
        else event
        for event in events
    ]
    made = guarded(g=Guard(metric="reward_mean", drop_frac=0.5))
    assert len(check_stage(fold(events), 2, "label", made, now=NOW)) == 1


@pytest.mark.parametrize(
    "limits", [{"not_finite": True}, {"above": 10}, {"below": -1}, {"drop_frac": 0.5}]
)
def test_a_number_that_is_not_finite_breaks_every_limit(
    tmp_path: Path, limits: dict[str, Any]
) -> None:
    write_done(tmp_path, [], {"kl_initial": float("nan"), "loss_last": 0.5})
    manifest = read_done(tmp_path)
    assert manifest is not None
    state = rounds_of("train", manifest.summary)
    made = guarded(kl=Guard(metric="kl_initial", **limits), loss=Guard(metric="loss_last", below=0))
    (trip,) = check_stage(state, 1, "train", made, now=NOW)
    assert (trip.guard, trip.value) == ("kl", None)
    assert trip.reason == "kl_initial is not finite (guard kl)"


def failed_training(cause: Cause) -> RunState:
    event = msgspec.structs.replace(failed(1, "train", reason="the loss is nan"), cause=cause)
    return fold(
        [created(settings()), round_started(1, settings()), started(1, "train"), event],
    )


def test_training_that_met_a_loss_that_is_not_finite_trips_the_default_guard() -> None:
    made = guarded(**DEFAULT_GUARDS, kl=Guard(metric="kl_initial", not_finite=True))
    (trip,) = check_stage(failed_training("non_finite"), 1, "train", made, now=NOW)
    assert (trip.guard, trip.metric, trip.value) == ("non_finite_loss", "loss_last", None)
    assert trip.reason == "loss_last is not finite (guard non_finite_loss)"
    assert trip.action == "pause"


@pytest.mark.parametrize("cause", ["crashed", "out_of_memory", "stopped"])
def test_another_failure_trips_nothing(cause: Cause) -> None:
    made = guarded(loss=Guard(metric="loss_last", not_finite=True, above=0, below=0))
    assert check_stage(failed_training(cause), 1, "train", made, now=NOW) == []


def test_a_trip_stops_the_run_as_its_action_says() -> None:
    state = rounds_of("train", {"kl_initial": 12.0})
    for action, status in (("pause", "pausing"), ("abort", "aborting"), ("warn", "running")):
        made = guarded(
            kl=Guard.model_validate({"metric": "kl_initial", "above": 10, "action": action})
        )
        (trip,) = check_stage(state, 1, "train", made, now=NOW)
        assert apply(state, trip).status == status


# The disk


def with_sizes(*, checkpoint_bytes: int) -> RunState:
    return fold([msgspec.structs.replace(created(settings()), checkpoint_bytes=checkpoint_bytes)])


def small_rows(**train: Any) -> RunSettings:
    """4 prompts a round, 2 completions of 1 token each: 264 bytes of rows, and one step of 4."""
    made = guarded(**DEFAULT_GUARDS)
    return made.model_copy(
        update={
            "sample": made.sample.model_copy(update={"group_size": 2, "max_new_tokens": 1}),
            "train": made.train.model_copy(update={"batch_size": 4, **train}),
        }
    )


# bfloat16: 2 bytes of checkpoint and 12 of trainer state a parameter, with 100 parameters
ONE_STEP = 264 + 200 + 1200
# in steps of 1, saved after each: 4 steps, so a mid-round state lies beside the results
MANY_STEPS = ONE_STEP + 1200


@pytest.mark.parametrize(
    ("train", "needed"),
    [({}, ONE_STEP), ({"batch_size": 1, "save_every_steps": 1}, MANY_STEPS)],
)
def test_the_disk_is_full_where_a_round_does_not_fit(train: dict[str, Any], needed: int) -> None:
    state, made = with_sizes(checkpoint_bytes=200), small_rows(**train)
    assert check_disk(state, made, DiskRoom(needed, 100), now=NOW) == []
    (trip,) = check_disk(state, made, DiskRoom(needed - 1, 100), now=NOW)
    assert (trip.guard, trip.round, trip.stage, trip.action) == ("disk", 1, None, "pause")
    assert trip.metric == "disk_free_rounds"
    assert trip.value == pytest.approx((needed - 1) / needed)


def test_no_less_is_foreseen_than_the_last_round_left() -> None:
    state, made = with_sizes(checkpoint_bytes=200), small_rows()
    assert check_disk(state, made, DiskRoom(ONE_STEP, 100, last_round_bytes=5000), now=NOW) != []
    assert check_disk(state, made, DiskRoom(5000, 100, last_round_bytes=5000), now=NOW) == []


def test_a_trip_of_the_disk_says_what_is_free_and_what_is_needed() -> None:
    state = with_sizes(checkpoint_bytes=2 * GIB)
    (trip,) = check_disk(state, small_rows(), DiskRoom(7 * GIB, GIB), now=NOW)
    assert trip.reason == (
        "disk_free_rounds is 0.5, below 1: 7 GiB are free, a round needs up to 14 GiB (guard disk)"
    )


def test_free_bytes_can_be_guarded_too() -> None:
    made = guarded(
        room=Guard(metric="disk_free_bytes", below=1000, action="warn"),
        kl=Guard(metric="kl_initial", above=0),
    )
    state = with_sizes(checkpoint_bytes=0)
    (trip,) = check_disk(state, made, DiskRoom(999, 0), now=NOW)
    assert (trip.guard, trip.value, trip.action) == ("room", 999, "warn")
    assert check_disk(state, made, DiskRoom(1000, 0), now=NOW) == []


def test_the_disk_is_measured_with_what_the_last_round_left(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    run_dir.prepared.write_bytes(b'{"num_parameters": 7, "num_prompts": 3}')
    state = with_sizes(checkpoint_bytes=200)
    before = measure_disk(run_dir, state)
    assert (before.num_parameters, before.last_round_bytes) == (7, 0)
    assert before.free_bytes > 0
    attempt = run_dir.attempt(1, "train", 1)
    attempt.checkpoint.mkdir(parents=True)
    (attempt.checkpoint / "model.safetensors").write_bytes(b"x" * 30)
    attempt.log.write_bytes(b"x" * 4)
    assert measure_disk(run_dir, apply(state, round_started(1, settings()))).last_round_bytes == 34


def test_without_the_count_of_parameters_they_are_the_most_there_can_be(tmp_path: Path) -> None:
    assert measure_disk(RunDir(tmp_path), with_sizes(checkpoint_bytes=200)).num_parameters == 100
