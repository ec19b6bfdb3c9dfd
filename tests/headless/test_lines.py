"""The words for every event, and what the live view says of a run's standing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from halos_backend.events import (
    STAGES,
    AbortRequested,
    Cause,
    Event,
    GuardTripped,
    PauseRequested,
    RequestRejected,
    RunExtended,
    RunFailed,
    RunResumed,
    SettingsChanged,
    StageDelayed,
    StageFailed,
    StageStalled,
    SupervisorStarted,
    VersionsChanged,
    WorkerReplaced,
    WorkersChosen,
)
from rich.console import Console

from halos_tui.headless.lines import describe
from halos_tui.headless.live_view import Picture, draw
from halos_tui.theme import load_theme
from halos_tui.tracking.run_tail import RunTail
from halos_tui.tracking.status import SeenStatus
from tests.support.made_run import GONE, MadeRun

SAMPLE: dict[str, Any] = {"t": 1.0, "round": 1, "stage": "sample", "attempt": 1}


def started_again(**about: Any) -> SupervisorStarted:
    return SupervisorStarted(t=1.0, generation=2, process=GONE, version="0.1.0", **about)


CHANGES: dict[str, tuple[Any, Any]] = {"train.lr": (5e-6, 1e-6)}

WORDS: list[tuple[Event, str]] = [
    (started_again(), "supervisor started, process 4000000"),
    (
        started_again(after_crash=True, went_on=("train",)),
        "supervisor restarted after a crash; the train stage went on, process 4000000",
    ),
    (
        started_again(after_crash=True, gone=("sample", "label")),
        "supervisor restarted after a crash; the sample stage ended meanwhile;"
        " the label stage ended meanwhile, process 4000000",
    ),
    (
        started_again(after_crash=True),
        "supervisor restarted after a crash; no stage ran, process 4000000",
    ),
    (PauseRequested(t=1.0, request_id="r"), "pausing at the end of the round"),
    (PauseRequested(t=1.0, request_id="r", at="stage"), "pausing when the running stage is done"),
    (AbortRequested(t=1.0, request_id="r"), "aborting now"),
    (AbortRequested(t=1.0, request_id="r", when="round"), "aborting at the end of the round"),
    (
        SettingsChanged(
            t=1.0, request_id="r", from_round=4, changes=CHANGES, by="alice@box",
            consequences=["the peak learning rate is 0.2 times that before"],
        ),
        "train.lr 5e-06 -> 1e-06 from round 4 (by alice@box);"
        " the peak learning rate is 0.2 times that before",
    ),
    (
        SettingsChanged(
            t=1.0, request_id="r", from_round=2,
            changes={"train.loss": ({"kind": "dpo", "beta": 0.1}, {"kind": "kto", "beta": 0.1})},
        ),
        "train.loss {kind=dpo, beta=0.1} -> {kind=kto, beta=0.1} from round 2",
    ),
    (
        RunExtended(
            t=1.0, request_id="r", num_rounds=5, changes={"loop.num_rounds": (3, 5)}, by="bob@box"
        ),
        "run extended to 5 rounds: loop.num_rounds 3 -> 5 (by bob@box)",
    ),
    (RunResumed(t=1.0, request_id="r"), "run goes on"),
    (RequestRejected(t=1.0, request_id="r", reason="no"), "request refused: no"),
    (
        GuardTripped(
            t=1.0, guard="kl", round=2, stage="train", metric="kl_initial", value=12.5,
            reason="kl_initial is 12.5, above 10", action="pause",
        ),
        "round 2 train: guard kl tripped: kl_initial is 12.5, above 10; the run pauses",
    ),
    (
        GuardTripped(
            t=1.0, guard="disk", round=2, stage=None, metric="disk_free_rounds", value=0.5,
            reason="the disk is about to fill", action="warn",
        ),
        "round 2: guard disk tripped: the disk is about to fill; only a warning",
    ),
    (
        VersionsChanged(t=1.0, changes={"torch": ("2.6", "2.7")}),
        "it goes on with other code than before: torch 2.6 -> 2.7",
    ),
    (
        WorkerReplaced(t=1.0, stage="label", reason="it ended by itself"),
        "the label stage is loaded anew: it ended by itself",
    ),
    (
        WorkersChosen(t=1.0, is_warm=True, reason="they take 1 GiB, 8 GiB are there"),
        "programs stay between rounds: they take 1 GiB, 8 GiB are there",
    ),
    (
        WorkersChosen(t=1.0, is_warm=False, reason="they take 9 GiB, 8 GiB are there"),
        "each stage starts a program of its own: they take 9 GiB, 8 GiB are there",
    ),
    (
        StageDelayed(reason="GPU 0 is held by process 7", **SAMPLE),
        "round 1 sample: waits: GPU 0 is held by process 7",
    ),
    (
        StageStalled(silent_s=900.0, phase="generating", **SAMPLE),
        "round 1 sample: stalled: no sign of life for 15m00s while generating; it is stopped",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("event", "said"), WORDS)
def test_each_event_is_one_line(runs: Path, event: Any, said: str) -> None:
    assert describe(event, RunTail(MadeRun(runs).dir)) == [said]


def _failed(cause: Cause, **changes: Any) -> StageFailed:
    return StageFailed(
        reason="broken", exit_code=1, last_lines=["first", "last"], cause=cause,
        **{**SAMPLE, **changes},
    )  # fmt: skip


def _lines_of_failures(runs: Path, *events: Event) -> list[str]:
    """What is said of the first of the events, once all are known."""
    run = MadeRun(runs)
    run.start_round(1)
    run.start_stage(1, "sample")
    run.say(*events)
    tail = RunTail(run.dir)
    tail.read()
    return describe(events[0], tail)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        ("crashed", "failed: broken; it is tried again at once"),
        ("lost", "failed (lost): broken; it is tried again at once"),
        ("stalled", "failed (stalled): broken; it is tried again at once"),
        ("stopped", "stopped: broken"),
    ],
)
def test_a_failure_that_is_tried_again_says_so(runs: Path, cause: Cause, said: str) -> None:
    assert _lines_of_failures(runs, _failed(cause)) == [f"round 1 sample: {said}"]


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("out_of_memory", " (out of memory)"),
        ("non_finite", " (not finite)"),
        ("missing_input", " (an input is missing)"),
        ("no_space", " (the disk is full)"),
        ("refused", " (refused)"),
    ],
)
def test_a_failure_that_waits_for_its_owner_comes_with_its_last_words(
    runs: Path, cause: Cause, words: str
) -> None:
    assert _lines_of_failures(runs, _failed(cause)) == [
        f"round 1 sample: failed{words}: broken; it waits for its owner",
        "round 1 sample: | first",
        "round 1 sample: | last",
    ]


def test_a_stage_of_an_aborted_run_was_aborted(runs: Path) -> None:
    lines = _lines_of_failures(runs, _failed("stopped"), AbortRequested(t=1.0, request_id="r"))

    assert lines == ["round 1 sample: aborted"]


def test_the_wait_before_another_attempt_is_named(runs: Path) -> None:
    events = [_failed("crashed", attempt=number) for number in (1, 2)]
    last_first = _lines_of_failures(runs, events[1])
    assert last_first == ["round 1 sample (attempt 2): failed: broken; it is tried again at once"]


def test_the_second_failure_in_a_row_waits_for_five_seconds(runs: Path) -> None:
    run = MadeRun(runs)
    run.start_round(1)
    for attempt in (1, 2):
        run.start_stage(1, "sample", attempt)
        run.say(_failed("crashed", attempt=attempt))
    tail = RunTail(run.dir)
    first, second = [event for event in tail.read() if isinstance(event, StageFailed)]
    assert describe(first, tail) == ["round 1 sample: failed: broken; it is tried again"]
    assert describe(second, tail) == [
        "round 1 sample (attempt 2): failed: broken; it is tried again in 5.0s"
    ]


def test_what_failed_beside_sampling_waits_for_its_end(runs: Path) -> None:
    run = MadeRun(runs)
    run.start_round(1)
    run.start_stage(1, "sample")
    run.start_stage(1, "label")
    failed = _failed("out_of_memory", stage="label")
    run.say(failed)
    tail = RunTail(run.dir)
    tail.read()
    assert describe(failed, tail) == [
        "round 1 label: failed (out of memory): broken; it is tried again when sampling is done"
    ]


def test_a_round_that_another_policy_sampled_is_sampled_anew_where_the_engine_had_stayed(
    runs: Path,
) -> None:
    run = MadeRun(runs)
    run.start_round(1)
    for stage in STAGES:
        run.start_stage(1, stage, is_warm=True)
    failed = _failed("other_policy", stage="train")
    run.say(failed)
    tail = RunTail(run.dir)
    tail.read()
    said = "round 1 train: failed (another policy's samples): broken"
    assert describe(failed, tail) == [f"{said}; the round is sampled anew at once"]

    run.say(RunFailed(t=2.0, reason="broken"))
    tail.read()
    assert describe(failed, tail)[0] == f"{said}; it waits for its owner"


def test_a_round_that_is_sampled_anew_says_so_however_late_its_lines_are_read(runs: Path) -> None:
    """The next attempt is no warm one, and begins 50 ms after the failure is written."""
    run = MadeRun(runs)
    run.start_round(1)
    for stage in STAGES:
        run.start_stage(1, stage, is_warm=True)
    failed = _failed("other_policy", stage="train")
    run.say(failed)
    run.start_stage(1, "sample", 2)
    tail = RunTail(run.dir)
    tail.read()
    assert describe(failed, tail) == [
        "round 1 train: failed (another policy's samples): broken; the round is sampled anew"
    ]


def test_a_run_that_gave_up_waits_for_its_owner(runs: Path) -> None:
    failed = RunFailed(t=2.0, reason="broken (3 attempts without progress)")
    lines = _lines_of_failures(runs, _failed("crashed"), failed)
    assert lines[0] == "round 1 sample: failed: broken; it waits for its owner"
    assert len(lines) == 3


# --- the live view --------------------------------------------------------------------------


def _drawn(run: MadeRun, status: SeenStatus | None = None) -> str:
    tail = RunTail(run.dir)
    tail.read()
    console = Console(theme=load_theme(), width=80, height=24, color_system=None)
    picture = Picture(tail.state, status or tail.state.status, {}, (), "", 1e9)
    with console.capture() as captured:
        console.print(draw(picture, width=80, height=24))
    return captured.get()


def test_the_view_says_where_a_run_pauses_what_is_in_its_way_and_what_changes(runs: Path) -> None:
    run = MadeRun(runs)
    run.start_round(1)
    run.say(
        StageDelayed(reason="GPU 0 is held by process 7 \x1b[31m", **SAMPLE),
        PauseRequested(t=1.0, request_id="r"),
        SettingsChanged(t=1.0, request_id="s", from_round=2, changes=CHANGES),
    )

    drawn = _drawn(run)

    assert "a-run  pausing  round 1 of 2" in drawn
    assert "pausing at the end of round 1\n" in drawn
    assert "! GPU 0 is held by process 7 \\x1b[31m\n" in drawn
    assert "from round 2: train.lr 5e-06 -> 1e-06\n" in drawn


def test_the_view_shows_a_stalled_supervisor(runs: Path) -> None:
    assert "a-run  stalled  round 0 of 2" in _drawn(MadeRun(runs), "stalled")


def test_the_view_counts_the_rounds_that_a_change_made(runs: Path) -> None:
    run = MadeRun(runs, num_prompts=14)
    run.whole_round(1)
    changes = {"loop.num_rounds": (2, 7)}
    run.say(SettingsChanged(t=1.0, request_id="s", from_round=2, changes=changes))

    assert "round 1 of 7" in _drawn(run)
