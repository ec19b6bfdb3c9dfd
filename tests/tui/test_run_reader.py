"""What the run screen reads: all of a run at once, little of it again, in bounded memory."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import msgspec
import pytest
from halos_backend.errors import CorruptFileError, UsageError
from halos_backend.events import (
    AbortRequested,
    GuardTripped,
    MetricsLogged,
    PhaseChanged,
    Progressed,
    RequestRejected,
    RunAborted,
    StageFailed,
    SupervisorStarted,
    Warned,
)
from halos_backend.records import Group, write_rows
from halos_backend.store.registry import load_state, write_snapshot
from halos_backend.store.run_dir import AttemptDir
from halos_backend.telemetry.log import TelemetryLog
from halos_backend.telemetry.reading import HostReading, Reading

from halos_tui.formatting import clock_time
from halos_tui.run import says
from halos_tui.run.reader import RunReader
from halos_tui.run.view import RunView, SaysView
from halos_tui.tracking import attempt_tail
from halos_tui.tracking.attempt_tail import AttemptTail
from halos_tui.tracking.rounds import HEADER, text_of
from halos_tui.tracking.series import BoundedSeries, ProgressMarks
from tests.support.made_run import GONE, STARTED_T, MadeRun, completion

ABOUT = {"round": 1, "stage": "train", "attempt": 1}
HISTOGRAM = {"edges": [0.0, 1.0, 2.0], "counts": [1, 3]}


@pytest.fixture
def run(tmp_path: Path) -> MadeRun:
    return MadeRun(tmp_path, num_rounds=9, num_prompts=18)


@pytest.fixture
def attempt(tmp_path: Path) -> AttemptDir:
    return AttemptDir(tmp_path)


def append(attempt: AttemptDir, *events: object) -> None:
    attempt.path.mkdir(parents=True, exist_ok=True)
    with attempt.events.open("ab") as file:
        file.write(b"".join(msgspec.json.encode(event) + b"\n" for event in events))


def step(number: int, **metrics: float) -> MetricsLogged:
    return MetricsLogged(t=STARTED_T + number, step=number, metrics=metrics, **ABOUT)


def progress(number: int, total: int, *, unit: str = "steps") -> Progressed:
    return Progressed(t=STARTED_T + number, done=number, total=total, unit=unit, **ABOUT)


def snapshot(run: MadeRun) -> None:
    size = run.dir.events.stat().st_size
    write_snapshot(run.dir, load_state(run.dir), offset=size)


def view_of(reader: RunReader) -> RunView:
    view = reader.read()
    assert view is not None
    return view


@pytest.mark.parametrize("has_snapshot", [False, True])
def test_all_of_a_run_is_there_after_the_first_read(run: MadeRun, has_snapshot: bool) -> None:
    for round in range(1, 30):
        run.whole_round(round, reward_mean=round / 10, reward_histogram=HISTOGRAM)
    if has_snapshot:
        snapshot(run)

    view = view_of(RunReader(run.dir))

    assert [row.round for row in view.rounds.rows] == list(range(1, 30))
    assert [cells_of(view, name)[4] for name in HEADER[:4]] == ["5", "2", "0.50", "+0.10 ±0.14"]
    assert list(view.rewards.means) == pytest.approx([round / 10 for round in range(1, 30)])
    assert view.rewards.lows[0] == pytest.approx(0.1 - 0.1)
    assert view.rewards.highs[0] == pytest.approx(0.1 + 0.1)
    assert view.distribution is not None
    assert view.distribution.round == 29
    assert list(view.distribution.now.counts) == [1.0, 3.0]
    assert view.distribution.first.name == "round 1"


def test_nothing_is_made_again_while_nothing_happens(run: MadeRun) -> None:
    run.whole_round(1)
    run.complete()
    reader = RunReader(run.dir)

    first = reader.read()

    assert first is not None
    assert reader.read() is None


def test_only_what_changed_is_another_object(run: MadeRun) -> None:
    for round in range(1, 21):
        run.whole_round(round)
    reader = RunReader(run.dir)
    before = view_of(reader)

    run.start_round(21)
    after = view_of(reader)

    assert len(after.rounds.rows) == 21
    pairs = zip(before.rounds.rows, after.rounds.rows, strict=False)
    assert all(old is new for old, new in pairs)


def test_a_supervisor_that_was_gone_and_a_stage_that_was_aborted_are_notices(run: MadeRun) -> None:
    run.start_round(1)
    run.start_stage(1, "sample")
    run.say(
        SupervisorStarted(
            t=STARTED_T,
            generation=2,
            process=GONE,
            version="0.1.0",
            after_crash=True,
            went_on=("sample",),
        ),
        AbortRequested(t=STARTED_T + 10, request_id="r"),
        StageFailed(
            t=STARTED_T + 10,
            round=1,
            stage="sample",
            attempt=1,
            reason="aborted",
            exit_code=-15,
            last_lines=[],
            cause="stopped",
        ),
        RunAborted(t=STARTED_T + 12, request_id="r"),
    )

    view = view_of(RunReader(run.dir))

    told = {notice.text: notice.severity for notice in view.notices}
    restarted = f"{clock_time(STARTED_T)} supervisor restarted after a crash; the sample stage"
    assert told == {
        "round 1: attempt 1 of sample was aborted": "muted",
        f"{restarted} went on": "warning",
    }
    assert view.rounds.rows[0].cells.texts[7:] == ("aborted", "-", "-")
    assert view.header.elapsed_s == 12


def test_rounds_go_on_after_a_snapshot_and_many_may_come_at_once(run: MadeRun) -> None:
    for round in range(1, 16):
        run.whole_round(round)
    snapshot(run)
    reader = RunReader(run.dir)
    reader.read()

    for round in range(16, 60):
        run.whole_round(round, reward_mean=1.0)
    view = view_of(reader)

    assert [row.round for row in view.rounds.rows] == list(range(1, 60))
    assert (cells_of(view, "reward")[15], cells_of(view, "change")[15]) == ("1.00", "+0.50 ±0.14")
    assert all(row.cells.texts[-1] == "1.5s" for row in view.rounds.rows)


def test_a_selected_round_gets_its_own_distribution_curves_and_warnings(run: MadeRun) -> None:
    for round in range(1, 40):
        run.whole_round(round, reward_histogram=HISTOGRAM, num_unscored=int(round == 3))
    about = {**ABOUT, "round": 3}
    event = MetricsLogged(t=STARTED_T, step=1, metrics={"loss": 0.25}, **about)
    append(run.dir.attempt(3, "train", 1), event)
    reader = RunReader(run.dir)
    assert view_of(reader).distribution.round == 39

    reader.select(3)
    view = view_of(reader)

    assert view.distribution.round == 3
    assert view.curves.round == 3
    assert view.curves.curves[0].name == "loss"
    assert list(view.curves.curves[0].ys) == [0.25]
    assert [notice.text for notice in view.notices[:2]] == [
        "round 3: 25.0% of the completions were cut off",
        "round 3: 1 completion of 4 unscored",
    ]


def test_finished_attempts_are_not_opened_unless_shown(
    run: MadeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    for round in range(1, 6):
        run.whole_round(round)
    opened: list[str] = []
    real = AttemptTail.__init__

    def remember(self: AttemptTail, attempt: AttemptDir) -> None:
        opened.append(attempt.path.parts[-3])
        real(self, attempt)

    monkeypatch.setattr(AttemptTail, "__init__", remember)
    reader = RunReader(run.dir)
    reader.read()
    assert opened == ["0005"]

    reader.select(2)
    reader.read()

    assert opened == ["0005", "0002"]


def test_guards_and_refusals_from_before_the_snapshot_are_told(run: MadeRun) -> None:
    guard = {"guard": "kl", "round": 1, "stage": "train", "metric": "kl_initial", "value": 9.0}
    run.say(GuardTripped(t=STARTED_T, reason="kl is 9", action="pause", **guard))
    run.say(RequestRejected(t=STARTED_T, request_id="r", reason="no such setting"))
    snapshot(run)

    view = view_of(RunReader(run.dir))

    assert [notice.text for notice in view.notices] == [
        "a request was refused: no such setting",
        "guard kl: kl is 9; it pauses the run",
    ]


def test_of_one_kind_of_warning_only_the_newest_is_told(run: MadeRun) -> None:
    for round in (1, 2, 3):
        run.whole_round(round)

    view = view_of(RunReader(run.dir))

    assert [notice.text for notice in view.notices] == [
        "round 3: 25.0% of the completions were cut off"
    ]


def test_a_corrupt_attempt_journal_is_a_warning_and_the_rest_is_shown(run: MadeRun) -> None:
    run.supervised()
    run.start_round(1)
    attempt = run.start_stage(1, "sample")
    attempt.events.write_bytes(b'{"type":"Nonsense","t":1}\n')

    view = view_of(RunReader(run.dir))

    assert view.header.status == "running"
    assert "events.jsonl, line 1" in view.notices[0].text


def test_a_corrupt_run_journal_is_an_error_that_names_the_line(run: MadeRun) -> None:
    with run.dir.events.open("ab") as file:
        file.write(b"nonsense\n")

    with pytest.raises(CorruptFileError, match=r"line 3"):
        RunReader(run.dir).read()


def test_a_run_of_a_later_version_is_refused(run: MadeRun) -> None:
    journal = run.dir.events.read_text()
    run.dir.events.write_text(journal.replace('"schema_version":1', '"schema_version":99', 1))

    with pytest.raises(UsageError, match="install that version"):
        RunReader(run.dir).read()


def test_the_log_is_that_of_the_newest_attempt(run: MadeRun) -> None:
    run.start_round(1)
    first = run.start_stage(1, "sample")
    first.log.write_text("old\n")
    run.fail_stage(1, "sample", "broken")
    second = run.start_stage(1, "sample", 2)
    second.log.write_text("".join(f"line {number}\n" for number in range(200)))

    view = view_of(RunReader(run.dir))

    assert view.events.title == "sample of round 1, attempt 2"
    assert view.events.output[-1] == "line 199"
    assert len(view.events.output) == 60


def test_telemetry_of_before_the_rotation_is_part_of_the_history(run: MadeRun) -> None:
    log = TelemetryLog(run.dir, max_bytes=2500)
    for number in range(100):
        host = HostReading(cpu_frac=number / 100)
        log.append(Reading(t=1000.0 + 10 * number, host=host))
    log.close()
    assert run.dir.old_telemetry.exists()

    host_view = view_of(RunReader(run.dir)).machine.host

    assert host_view is not None
    known = len(host_view.utilization_history)
    assert known > 50
    assert host_view.utilization_history[-3:] == (0.97, 0.98, 0.99)


def test_a_gap_in_the_telemetry_is_a_gap_in_the_history(run: MadeRun) -> None:
    log = TelemetryLog(run.dir)
    for t, used in ((1000.0, 0.25), (1004.0, 0.75), (1030.0, 0.5)):
        log.append(Reading(t=t, host=HostReading(cpu_frac=used)))
    log.close()

    host = view_of(RunReader(run.dir)).machine.host

    # two readings of the first ten seconds are one value, and twenty seconds have none
    assert host is not None
    first, *gap, last = host.utilization_history
    assert (first, last) == (0.5, 0.5)
    assert len(gap) == 2
    assert all(map(math.isnan, gap))


def test_an_attempt_is_followed_as_it_grows(attempt: AttemptDir) -> None:
    tail = AttemptTail(attempt)
    assert not tail.read()

    append(attempt, PhaseChanged(t=STARTED_T, phase="training", **ABOUT), step(1, loss=0.7))
    assert tail.read()
    append(attempt, step(2, loss=0.6), progress(2, 10))
    assert tail.read()
    assert not tail.read()

    xs, ys, _, _ = tail.series["loss"].columns()
    assert (list(xs), list(ys)) == ([1.0, 2.0], [0.7, 0.6])
    assert (tail.live.phase, tail.live.step, tail.num_steps) == ("training", 2, 10)
    assert tail.marks == ((STARTED_T + 2, 2),)


def test_a_new_phase_begins_new_marks(attempt: AttemptDir) -> None:
    append(attempt, progress(1, 10), progress(2, 10))
    append(attempt, PhaseChanged(t=STARTED_T, phase="saving", **ABOUT), progress(3, 10, unit="MB"))
    tail = AttemptTail(attempt)

    tail.read()

    assert tail.marks == ((STARTED_T + 3, 3),)


def test_a_resumed_attempt_that_goes_back_writes_its_steps_anew(attempt: AttemptDir) -> None:
    append(attempt, *[step(number, loss=1.0) for number in (1, 2, 3, 4)])
    append(attempt, step(3, loss=0.5), step(4, loss=0.25))
    tail = AttemptTail(attempt)

    tail.read()

    xs, ys, _, _ = tail.series["loss"].columns()
    assert (list(xs), list(ys)) == ([1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 0.5, 0.25])


def test_a_flood_of_warnings_keeps_the_newest(attempt: AttemptDir) -> None:
    append(attempt, *[Warned(t=STARTED_T, text=f"w{number}", **ABOUT) for number in range(500)])
    tail = AttemptTail(attempt)

    tail.read()

    assert tail.live.warnings == tuple(f"w{number}" for number in range(480, 500))


def test_of_a_long_journal_samples_its_rare_events_and_its_end_are_read(
    attempt: AttemptDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_tail, "SAMPLED_BYTES", 100_000)
    monkeypatch.setattr(attempt_tail, "PIECE_BYTES", 1000)
    monkeypatch.setattr(attempt_tail, "SEARCH_BLOCK_BYTES", 5000)
    append(attempt, PhaseChanged(t=STARTED_T, phase="training", **ABOUT))
    for number in range(1, 5001):
        append(attempt, step(number, loss=float(number)), progress(number, 9000))
        if number == 2500:
            append(attempt, Warned(t=STARTED_T, text="half way", **ABOUT))
    tail = AttemptTail(attempt)

    tail.read()

    xs, ys, _, _ = tail.series["loss"].columns()
    assert 64 < len(xs) < 1000
    assert list(xs) == sorted(xs)
    assert all(abs(x - y) <= 8 for x, y in zip(xs, ys, strict=True))
    assert xs[-1] == 5000.0
    assert (tail.live.phase, tail.live.done, tail.live.step) == ("training", 5000, 5000)
    assert tail.live.warnings == ("half way",)
    assert tail.live.rate == pytest.approx(1.0)
    append(attempt, step(5001, loss=0.0), progress(5001, 9000))
    tail.read()
    assert tail.live.done == 5001


def test_a_full_series_joins_neighbours_into_their_mean_and_extremes() -> None:
    series = BoundedSeries(capacity=4)

    for x, y in enumerate([1.0, 3.0, 5.0, 9.0, 2.0], 1):
        series.add(x, y)

    xs, ys, lows, highs = series.columns()
    # (1, 3) and (5, 9) are joined when the fourth comes; the fifth stands alone so far
    assert list(xs) == [2.0, 4.0, 5.0]
    assert list(ys) == [2.0, 7.0, 2.0]
    assert list(lows) == [1.0, 5.0, 2.0]
    assert list(highs) == [3.0, 9.0, 2.0]
    assert series.is_joined


def test_a_series_stays_small_and_keeps_its_extremes() -> None:
    series = BoundedSeries(capacity=64)

    for x in range(100_000):
        series.add(x, 1000.0 if x == 54_321 else math.sin(x))

    xs, ys, _, highs = series.columns()
    assert len(xs) <= 64
    assert xs[-1] == 99_999
    assert max(highs) == 1000.0
    assert all(abs(y) < 3.0 for y in ys)


def test_what_is_not_finite_is_left_out_of_a_mean_and_alone_is_a_gap() -> None:
    series = BoundedSeries(capacity=4)

    for x, y in enumerate([math.nan, 2.0, math.nan, math.nan, 4.0], 1):
        series.add(x, y)

    _, ys, _, highs = series.columns()
    assert ys[0] == 2.0
    assert math.isnan(ys[1])
    assert (ys[2], highs[2]) == (4.0, 4.0)


def test_marks_stay_few_and_span_all_the_time() -> None:
    marks = ProgressMarks(most=8)

    for t in range(1000):
        marks.add(float(t), 2 * t)

    kept = marks.marks()
    assert len(kept) <= 9
    assert kept[0] == (0.0, 0)
    assert kept[-1] == (999.0, 1998)


def test_a_long_watch_adds_little_memory(run: MadeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """100,000 events of an attempt and 1,000 rounds, after a warm-up of both."""

    def say(*events: object) -> None:
        with run.dir.events.open("ab") as file:
            file.write(b"".join(msgspec.json.encode(event) + b"\n" for event in events))

    monkeypatch.setattr(run, "say", say)
    reader = RunReader(run.dir)

    def play_rounds(first: int, last: int) -> None:
        for round in range(first, last):
            run.whole_round(round, reward_mean=0.1 * round, reward_histogram=HISTOGRAM)
            if round % 10 == 0:
                reader.read()

    def train(attempt: AttemptDir, first: int, last: int) -> None:
        for start in range(first, last, 1000):
            numbers = range(start, start + 1000)
            metrics = {"loss": 1.0, "grad_norm": 2.0, "lr": 3.0}
            append(attempt, *[step(number, **metrics) for number in numbers])
            append(attempt, *[progress(number, 10**6) for number in numbers])
            reader.read()

    play_rounds(1, 50)
    run.start_round(50)
    attempt = run.start_stage(50, "train")
    tracemalloc.start()
    try:
        train(attempt, 1, 10_001)
        before = tracemalloc.get_traced_memory()[0]
        train(attempt, 10_001, 60_001)
        run.finish_stage(50, "train")
        run.finish_round(50)
        play_rounds(51, 1051)
        added = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert added < 5 << 20


def scored(
    run: MadeRun, round: int, *groups: tuple[str, str, tuple[tuple[str, float], ...]]
) -> None:
    """A round whose scores are these: prompt_id, what it asks, texts with their rewards."""
    run.whole_round(round)
    write_rows(
        run.dir.attempt(round, "label", 1).scores,
        [
            Group(
                prompt_id,
                ({"role": "user", "content": asked},),
                (1,),
                round - 1,
                tuple(completion(n, text, reward) for n, (text, reward) in enumerate(answers)),
            )
            for prompt_id, asked, answers in groups
        ],
    )


def says_of(reader: RunReader) -> SaysView:
    return view_of(reader).says


def test_a_prompt_that_comes_again_is_answered_then_and_now(run: MadeRun) -> None:
    scored(run, 1, ("a", "sort 2 1", (("2 1", -1.0), ("1", 0.0))), ("b", "sort 4 3", (("4", 0.5),)))
    scored(run, 2, ("c", "sort 9 8", (("9", -2.0),)), ("b", "sort 4 3", (("3 4", 1.0), ("3", 0.0))))

    says = says_of(RunReader(run.dir))

    assert (says.prompt_id, says.is_same_prompt, says.number, says.num_prompts) == ("b", True, 1, 2)
    assert (says.first.what, says.first.text, says.first.reward) == ("round 1", "4", 0.5)
    assert (says.now.what, says.now.prompt, says.now.text) == ("round 2", "sort 4 3", "3 4")
    assert (says.best.text, says.best.reward) == ("3 4", 1.0)
    assert (says.worst.prompt, says.worst.text, says.worst.reward) == ("sort 9 8", "9", -2.0)


def test_without_a_common_prompt_the_next_of_each_round_stand_beside_each_other(
    run: MadeRun,
) -> None:
    scored(run, 1, ("a", "sort 2 1", (("2 1", -1.0),)), ("b", "sort 4 3", (("4", 0.5),)))
    scored(run, 2, ("c", "sort 9 8", (("9", 1.0),)), ("d", "sort 7 6", (("7", 1.0),)))
    reader = RunReader(run.dir)
    first = says_of(reader)

    reader.take_next_prompt()
    second = says_of(reader)
    reader.take_next_prompt()
    third = says_of(reader)

    assert (first.is_same_prompt, first.first.prompt, first.now.prompt) == (
        False,
        "sort 2 1",
        "sort 9 8",
    )
    assert (second.prompt_id, second.first.prompt, second.now.text) == ("d", "sort 4 3", "7")
    assert third == first
    assert first.best.text == "9"
    assert first.worst is None


def test_a_held_out_prompt_is_not_the_one_with_the_same_number(run: MadeRun) -> None:
    scored(run, 1, ("a", "sort 2 1", (("2 1", -1.0),)))
    run.score_result(round=2)
    path = run.dir.attempt(2, "label", 1).scores
    write_rows(
        path,
        [Group("a", ({"role": "user", "content": "add 1"},), (1,), 1, (completion(0, "2", 1.0),))],
    )

    says = says_of(RunReader(run.dir))

    assert (says.now.what, says.now.prompt, says.is_same_prompt) == ("final policy", "add 1", False)


def test_scores_are_passed_over_a_piece_at_a_time_and_only_once(
    run: MadeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(says, "PASS_BYTES", 1)
    prompts = [(f"p{n}", f"sort {n}", ((f"{n}", float(n)),)) for n in range(3)]
    scored(run, 1, *prompts)
    reader = says.Says(run.dir)
    reader.turn_to(load_state(run.dir))

    bests = []
    for _ in range(5):
        reader.read()
        bests.append(reader.view.best and reader.view.best.text)
    run.dir.attempt(1, "label", 1).scores.unlink()
    before = reader.view
    reader.read()

    assert bests == [None, None, None, "2", "2"]
    assert reader.view is before


def test_no_scores_say_nothing_and_lines_that_are_no_groups_are_left_out(run: MadeRun) -> None:
    run.whole_round(1)
    reader = RunReader(run.dir)
    assert view_of(reader).says == SaysView()
    scored(run, 2, ("a", "sort 2 1", (("1 2", 1.0),)))
    path = run.dir.attempt(2, "label", 1).scores
    path.write_bytes(b"no group\n" + path.read_bytes())

    says = says_of(reader)

    assert (says.now.text, says.first, says.num_prompts) == ("1 2", None, 1)


def told_of(view: RunView) -> list[tuple[str, str, str]]:
    return [(one.where, one.text, one.severity) for one in view.events.events]


def test_events_tell_what_happened_and_how_long_it_took(run: MadeRun) -> None:
    run.start_round(1)
    attempt = run.start_stage(1, "train")
    reader = RunReader(run.dir)
    reader.read()

    def phase(t: float, name: str) -> PhaseChanged:
        return PhaseChanged(t=STARTED_T + t, phase=name, **ABOUT)

    def done(number: int) -> Progressed:
        t = STARTED_T + 14 + number
        return Progressed(t=t, done=number, total=8, unit="steps", **ABOUT)

    steps = [event for n in range(1, 9) for event in (done(n), step(n, loss=1 / n))]
    steps = [msgspec.structs.replace(event, t=STARTED_T + 14 + n) for n, event in enumerate(steps)]
    append(attempt, phase(10, "loading policy (x 1)"), phase(12.1, "training"), *steps)
    append(attempt, phase(40, "saving checkpoint"))
    assert view_of(reader).events.now[0].text == "saving checkpoint ..."
    append(attempt, phase(42, "verifying outputs"), Warned(t=STARTED_T + 42, text="odd", **ABOUT))
    reader.read()
    append(attempt, phase(42.01, "and a phase of its own"))
    run._t = STARTED_T + 50
    run.finish_stage(1, "train")
    view = view_of(reader)

    assert view.events.now == ()
    assert told_of(view)[2:] == [
        ("round 1", "2 prompts", ""),
        ("train", "policy loaded in 2.1s (x 1)", ""),
        ("train", "step 2, loss 0.500", ""),
        ("train", "step 4, loss 0.250", ""),
        ("train", "step 6, loss 0.167", ""),
        ("train", "step 8, loss 0.125", ""),
        ("train", "trained in 28s", ""),
        ("train", "checkpoint of 10 B saved in 2.0s", ""),
        ("train", "odd", "warning"),
        ("train", "and a phase of its own, 9.0s", ""),
        ("train", "1 step, loss 0.500, 1.5s", ""),
    ]


def test_a_failed_attempt_and_the_next_are_events(run: MadeRun) -> None:
    run.start_round(1)
    run.start_stage(1, "label")
    run.fail_stage(1, "label", "the judge is gone")
    run.start_stage(1, "label", 2)
    run.finish_stage(1, "label", 2, reward_stderr=0.25)

    told = told_of(view_of(RunReader(run.dir)))

    assert told[-3][0::2] == ("label", "bad")
    assert told[-3][1].startswith("failed: the judge is gone")
    assert told[-2:] == [
        ("label", "attempt 2 started", "warning"),
        ("label", "reward 0.50 ±0.25, 1.5s", ""),
    ]


def test_only_the_last_events_of_a_long_run_are_kept(run: MadeRun) -> None:
    for round in range(1, 40):
        run.whole_round(round)

    view = view_of(RunReader(run.dir))

    assert len(view.events.events) == 60
    assert told_of(view)[-4:] == [
        ("round 39", "2 prompts", ""),
        ("sample", "4 completions, 1.5s", ""),
        ("label", "reward 0.500, 1.5s", ""),
        ("train", "1 step, loss 0.500, 1.5s", ""),
    ]


def test_the_steps_of_a_round_are_marked_and_timed(run: MadeRun) -> None:
    run.supervised()
    run.whole_round(1)
    run.start_round(2)
    run.start_stage(2, "sample")
    run.finish_stage(2, "sample")
    attempt = run.start_stage(2, "label")
    about = {"round": 2, "stage": "label", "attempt": 1}
    append(
        attempt,
        PhaseChanged(t=STARTED_T, phase="scoring", **about),
        Progressed(t=STARTED_T, done=2, total=4, unit="completions", **about),
    )

    progress = view_of(RunReader(run.dir)).progress

    assert [(step.name, step.mark) for step in progress.steps] == [
        ("sample", "done"),
        ("label", "running"),
        ("train", "waiting"),
    ]
    assert progress.steps[0].time_s == 1.5
    assert progress.steps[2].usual_s == 1.5
    assert progress.stages[0].prompts == (1, 2)  # two completions each
    # of nine rounds one, and half of another: its sampling and half of its labels
    assert progress.share == pytest.approx((1 + 1.5 / 3) / 9)
    assert (progress.round, progress.num_rounds, progress.place) == (2, 9, "round 2")
    assert progress.ends


def test_the_last_round_is_followed_by_the_score(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, num_rounds=1)
    run.start_round(1)

    progress = view_of(RunReader(run.dir)).progress

    assert [step.name for step in progress.steps] == ["sample", "label", "train", "score"]


def test_the_result_is_scored_in_two_steps(run: MadeRun) -> None:
    run.whole_round(1)
    run.score_result(round=2)

    progress = view_of(RunReader(run.dir)).progress

    assert [(step.name, step.mark) for step in progress.steps] == [
        ("sample", "done"),
        ("label", "done"),
    ]
    assert progress.place == "final policy"
    assert progress.round == 1


def cells_of(view: RunView, name: str) -> list[str]:
    column = HEADER.index(name)
    return [text_of(row.cells, column, view.rounds.looks) for row in view.rounds.rows]


def test_figures_of_the_table_are_as_exact_as_their_errors_are(run: MadeRun) -> None:
    run.whole_round(1, reward_mean=-0.9386, reward_stderr=0.1584)
    run.whole_round(2, reward_mean=0.7042, reward_stderr=0.1612)
    run.whole_round(3, reward_mean=0.7001, reward_stderr=0.1612)

    view = view_of(RunReader(run.dir))

    assert cells_of(view, "reward") == ["-0.94", "0.70", "0.70"]
    # the errors are hypot(0.1584, 0.1612) and hypot(0.1612, 0.1612)
    assert cells_of(view, "change") == ["-", "+1.64 ±0.23", "0.00 ±0.23"]
    assert cells_of(view, "loss") == ["0.500"] * 3
    assert cells_of(view, "KL") == ["0.013"] * 3


def test_rewards_of_nothing_but_0_and_1_are_shares(run: MadeRun) -> None:
    yes_or_no = {"reward_min": 0.0, "reward_max": 1.0}
    run.whole_round(1, reward_mean=0.5, reward_std=0.5, reward_stderr=0.12, **yes_or_no)
    run.whole_round(2, reward_mean=0.8, reward_std=0.4, reward_stderr=0.12, **yes_or_no)
    reader = RunReader(run.dir)

    view = view_of(reader)
    assert cells_of(view, "reward") == ["50%", "80%"]
    # hypot(12, 12)
    assert cells_of(view, "change") == ["-", "+30% ±17%"]

    run.whole_round(3, reward_mean=0.8, reward_std=0.3, reward_stderr=0.12, **yes_or_no)
    assert cells_of(view_of(reader), "reward") == ["0.50", "0.80", "0.80"]


def test_the_last_steps_of_a_stage_that_has_just_ended_are_in_its_curves(run: MadeRun) -> None:
    run.start_round(1)
    attempt = run.start_stage(1, "train")
    reader = RunReader(run.dir)
    assert view_of(reader).curves.curves == ()

    append(attempt, step(1, loss=0.5), step(2, loss=0.25))
    run.finish_stage(1, "train")
    view = view_of(reader)

    assert list(view.curves.curves[0].ys) == [0.5, 0.25]
