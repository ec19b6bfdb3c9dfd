"""The run screen: what it shows in every state of a run, at every size, and what its keys do."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from halos_backend import clock
from halos_backend.events import (
    STAGES,
    AbortRequested,
    GuardTripped,
    MetricsLogged,
    PauseRequested,
    PhaseChanged,
    Progressed,
    RunAborted,
    RunCompleted,
    RunFailed,
    RunPaused,
    SettingsChanged,
    Stage,
    StageDelayed,
    VersionsChanged,
    Warned,
)
from halos_backend.records import Group, write_rows
from halos_backend.store.run_dir import AttemptDir
from halos_backend.store.writer import EventWriter
from halos_backend.telemetry.log import TelemetryLog
from halos_backend.telemetry.reading import GpuProcess, GpuReading, HostReading, Reading

from halos_tui.run.chart_panels import TrainCurves
from halos_tui.run.round_table import RoundTable
from tests.support.app_fixtures import drive, opened, run_screen, screen_text, until, until_shown
from tests.support.made_run import STARTED_T, MadeRun, completion, write_round_files
from tests.support.watchdog import Block, Watchdog, drive_unblocked

REWARDS = {
    "reward_mean": 0.5,
    "reward_std": 0.25,
    "reward_q05": 0.1,
    "reward_q25": 0.3,
    "reward_q50": 0.5,
    "reward_q75": 0.7,
    "reward_q95": 0.9,
    "reward_histogram": {"edges": [0.0, 0.5, 1.0], "counts": [3, 1]},
}
EVERYTHING = (200, 60)
HOSTILE = "\x1b]52;c;aGk=\x07\x1b[2J[red]x[/red]\u202e end"
SHOWN = "\\x1b]52;c;aGk=\\x07\\x1b[2J[red]x[/red]\\u202e end"


@pytest.fixture
def run(tmp_path: Path) -> MadeRun:
    return MadeRun(tmp_path)


def write_train_events(
    attempt: AttemptDir, round: int, *, steps: Sequence[int] = range(1, 9), total: int = 16
) -> None:
    about = {"round": round, "stage": "train", "attempt": 1}
    with EventWriter(attempt.events) as writer:
        if steps[0] == 1:
            writer.append(PhaseChanged(t=STARTED_T, phase="training policy", **about))
        for step in steps:
            metrics = {"loss": 1.0 / step, "grad_norm": 0.5, "lr": 1e-5}
            metrics |= {"implicit_reward_margin": 0.1 * step, "implicit_reward_accuracy": 0.75}
            t = STARTED_T + step
            writer.append(MetricsLogged(t=t, step=step, metrics=metrics, **about))
            writer.append(Progressed(t=t, done=step, total=total, unit="steps", **about))


def running(run: MadeRun, stage: Stage) -> AttemptDir:
    """A first round that is as far as that stage, after one that is done."""
    run.supervised()
    run.whole_round(1, **REWARDS)
    run.start_round(2)
    for name in STAGES:
        attempt = run.start_stage(2, name)
        if name == stage:
            return attempt
        run.finish_stage(2, name, **(REWARDS if name == "label" else {}))
    raise AssertionError(stage)


def say_of(attempt: AttemptDir, stage: Stage, *events: Callable[..., object]) -> None:
    with EventWriter(attempt.events) as writer:
        for event in events:
            writer.append(event(round=2, stage=stage, attempt=1))


def shown_at(run: MadeRun, *texts: str, size: tuple[int, int] = (80, 24), **options: bool) -> str:
    """What the screen shows once all texts are on it."""
    found: list[str] = []

    async def look() -> None:
        async with opened(run_screen(run.dir), root=run.dir.path.parent, size=size, **options) as (
            _,
            pilot,
        ):
            found.append(await until_shown(pilot, *texts))

    drive(look())
    return found[0]


def test_a_run_that_was_just_created(run: MadeRun) -> None:
    shown_at(run, "a-run", "lost", "round 0 of 2", "no round has begun yet", "nothing is scored")


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_shows_its_phase_progress_and_rate(run: MadeRun, stage: Stage) -> None:
    attempt = running(run, stage)
    say_of(
        attempt,
        stage,
        lambda **about: PhaseChanged(t=STARTED_T, phase="at work", **about),
        lambda **about: Progressed(t=STARTED_T, done=0, total=40, unit="things", **about),
        lambda **about: Progressed(t=STARTED_T + 5, done=10, total=40, unit="things", **about),
    )

    shown = shown_at(run, f"{stage} at work", "10 of 40 things", "25%", "2 things/s")

    # 30 things at 2 a second
    assert "about 15s left" in shown
    assert f"▸ {stage}" in shown
    assert "round 2 of 2" in shown
    assert "running" in shown


def test_a_pausing_run_says_where_it_will_stop(run: MadeRun) -> None:
    running(run, "sample")
    run.say(PauseRequested(t=STARTED_T + 20, request_id="r1"))

    shown_at(run, "pausing", "at the end of round 2")


def test_a_paused_run_says_why_and_what_goes_on(run: MadeRun) -> None:
    run.whole_round(1, **REWARDS)
    run.say(RunPaused(t=STARTED_T + 20, reason="by its owner, after round 1"))

    shown = shown_at(run, "paused", "by its owner, after round 1", "p goes on")

    assert "stage about" not in shown


def test_hints_name_the_keys_as_they_are(
    run: MadeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    config = tmp_path / "config" / "halos-tui" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[keys]\npause = "z"\n')
    run.whole_round(1, **REWARDS)
    run.say(RunPaused(t=STARTED_T + 20, reason="by its owner, after round 1"))

    shown_at(run, "by its owner, after round 1", "z goes on")
    assert "goes on" not in shown_at(run, "by its owner, after round 1", read_only=True)


def test_a_failed_run_says_why_and_what_tries_again(run: MadeRun) -> None:
    running(run, "label")
    run.fail_stage(2, "label", "the judge is gone")
    run.say(RunFailed(t=STARTED_T + 20, reason="the judge is gone (3 attempts)"))

    shown_at(run, "failed", "the judge is gone (3 attempts)", "r tries again")


def test_an_aborted_run(run: MadeRun) -> None:
    run.whole_round(1, **REWARDS)
    run.say(AbortRequested(t=STARTED_T + 20, request_id="r1"))
    run.say(RunAborted(t=STARTED_T + 21, request_id="r1"))

    shown_at(run, "aborted by its owner", "f forks")


def test_a_completed_run(run: MadeRun) -> None:
    run.whole_round(1, **REWARDS)
    run.whole_round(2, **REWARDS)
    run.complete()

    shown_at(run, "completed", "all rounds are done", "e adds rounds", "round 2 of 2")


def test_a_lost_run_says_that_its_supervisor_is_gone(run: MadeRun) -> None:
    running(run, "train")
    run.unsupervised()

    shown_at(run, "lost", "its supervisor is gone")


def test_a_stalled_supervisor_is_the_first_warning(
    run: MadeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(run, "train")
    real = clock.now
    monkeypatch.setattr(clock, "now", lambda: real() + 60.0)

    shown_at(run, "stalled", "!! ", "the supervisor of a-run")


def test_changes_that_wait_for_a_round(run: MadeRun) -> None:
    running(run, "sample")
    changes = {"train.lr": (5e-6, 1e-6)}
    run.say(SettingsChanged(t=STARTED_T + 20, request_id="r1", from_round=3, changes=changes))

    shown_at(run, "next: from round 3: train.lr 5e-06 -> 1e-06")


def test_warnings_of_all_kinds(run: MadeRun) -> None:
    attempt = running(run, "label")
    guard = {"guard": "kl", "round": 1, "stage": "train", "metric": "kl_initial", "value": 9.0}
    run.say(
        GuardTripped(t=STARTED_T + 20, reason="kl_initial is 9", action="warn", **guard),
        VersionsChanged(t=STARTED_T + 21, changes={"torch": ("2.6", "2.7")}),
    )
    say_of(attempt, "label", lambda **about: Warned(t=STARTED_T, text="slow judge", **about))
    run.finish_stage(2, "label", num_unscored=3, unscored_reasons={"timeout": 3}, num_completions=4)
    run.finish_round(2, untrained="no feedback is left")

    shown_at(
        run,
        "guard kl: kl_initial is 9",
        "torch 2.6 -> 2.7",
        "3 completions of 4 unscored (timeout)",
        "round 2: 25.0% of the completions were cut off",
        "was not trained: no feedback is left",
        size=EVERYTHING,
    )


def test_a_wait_and_a_stage_s_own_warning_come_before_the_rest(run: MadeRun) -> None:
    attempt = running(run, "sample")
    say_of(attempt, "sample", lambda **about: Warned(t=STARTED_T, text="few prompts", **about))
    about = {"round": 2, "stage": "sample", "attempt": 1}
    run.say(StageDelayed(t=STARTED_T + 20, reason="GPU 0 is another run's", **about))

    shown = shown_at(run, "GPU 0 is another run's", "few prompts", size=EVERYTHING)

    assert shown.index("GPU 0 is another") < shown.index("few prompts") < shown.index("cut off")


def test_hostile_text_is_shown_as_escapes(run: MadeRun) -> None:
    attempt = running(run, "train")
    attempt.log.write_text(f"log {HOSTILE}\n")
    say_of(
        attempt,
        "train",
        lambda **about: PhaseChanged(t=STARTED_T, phase=f"phase {HOSTILE}", **about),
        lambda **about: Warned(t=STARTED_T, text=f"warning {HOSTILE}", **about),
        lambda **about: Progressed(t=STARTED_T, done=1, total=2, unit=f"unit {HOSTILE}", **about),
    )

    shown = shown_at(
        run, f"phase {SHOWN}", f"log {SHOWN}", f"unit {SHOWN}", "train: warning", size=EVERYTHING
    )

    assert shown.count(SHOWN) >= 4
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_events_stand_above_the_output_of_the_stage(run: MadeRun) -> None:
    attempt = running(run, "train")
    say_of(
        attempt, "train", lambda **about: PhaseChanged(t=STARTED_T + 20, phase="training", **about)
    )
    attempt.log.write_text("".join(f"line {number}\n" for number in range(80)))

    shown = shown_at(run, "events", "training ...", "| line 79", size=(120, 40))

    assert shown.index("training ...") < shown.index("| line 79")
    assert "line 0" not in shown
    assert "written nothing" not in shown


def test_everything_is_on_a_large_screen(run: MadeRun) -> None:
    attempt = running(run, "train")
    write_train_events(attempt, 2)
    attempt.log.write_text("step 8 is done\n")

    shown_at(
        run,
        "reward before training",
        "rewards",
        "█ round 2",
        "─ round 1",
        "training  round 2",
        "loss  ",
        "implicit reward margin",
        "implicit reward accuracy",
        "KL by round",
        "gradient norm",
        "learning rate",
        "machine",
        "warnings",
        "step 8 is done",
        "8 of 16 steps",
        "50% 0.5",
        size=EVERYTHING,
    )


def test_a_small_screen_has_the_essentials(run: MadeRun) -> None:
    write_train_events(running(run, "train"), 2)

    shown_at(
        run,
        "running",
        "round 2 of 2",
        "left",
        "ends about",
        "8 of 16 steps",
        "reward before training",
        "loss",
    )


def test_what_the_policy_says_is_shown_and_the_next_prompt_and_its_completions(
    run: MadeRun,
) -> None:
    for round in (1, 2):
        run.whole_round(round, **REWARDS)
        write_round_files(run, round)

    async def look() -> None:
        async with opened(run_screen(run.dir), root=run.dir.path.parent, size=(120, 40)) as (
            app,
            pilot,
        ):
            await until_shown(pilot, "what it says", "prompt 1 of 2", "Say hello.")
            await until_shown(pilot, "round 1 0.25 hello", "round 2 0.25 hello")
            await until_shown(pilot, "best 1.00 What is 1 + 1? → two")
            await until_shown(pilot, "worst 0.25 Say hello. → hello")
            await pilot.press("o")
            await until_shown(pilot, "prompt 2 of 2 What is 1 + 1?", "round 2 1.00 two")
            await pilot.press("enter")
            await until(pilot, lambda: app.opened)
            wanted = {"round": 2, "prompt_id": "alpha"}
            assert app.opened == [("completions", (run.dir,), wanted)]

    drive(look())


@pytest.mark.parametrize("is_ascii", [False, True])
def test_long_and_hostile_completions_stay_in_their_lines(run: MadeRun, is_ascii: bool) -> None:
    run.whole_round(1, **REWARDS)
    long = f"first\nsecond {HOSTILE} " + "word " * 500
    asked = ({"role": "user", "content": f"{HOSTILE}\n" + "ask " * 100},)
    answers = (completion(0, long, 0.5), completion(1, "漢字" * 300, -1.25))
    write_rows(run.dir.attempt(1, "label", 1).scores, [Group("a", asked, (1,), 0, answers)])

    shown = shown_at(run, "round 1", "best", "worst", "-1.25", size=EVERYTHING, is_ascii=is_ascii)

    assert f"{SHOWN[:14]}" in shown
    assert ("first\\nsecond" if is_ascii else "first↵second") in shown
    assert ">" in shown if is_ascii else "…" in shown
    assert "\x1b" not in shown
    assert not is_ascii or shown.isascii()


def test_gpus_are_shown_with_history_and_who_else_is_there(run: MadeRun) -> None:
    log = TelemetryLog(run.dir)
    other = GpuProcess(pid=77, used_bytes=1 << 30, name="python", user="eve")
    for number in range(30):
        gpu = GpuReading(
            index=0,
            name="NVIDIA H100",
            utilization_frac=number / 30,
            memory_used_bytes=40 << 30,
            memory_total_bytes=80 << 30,
            power_w=312.4,
            temperature_c=67,
            processes=(other,),
        )
        log.append(Reading(t=STARTED_T + 2 * number, host=HostReading(cpu_frac=0.5), gpus=(gpu,)))
    log.close()

    shown = shown_at(
        run,
        "gpu 0",
        "97% busy",
        "40/80 GiB",
        "312 W",
        "67 °C",
        "H100",
        "gpu 0 also: python 77 of eve 1 GiB",
        size=EVERYTHING,
    )

    assert any(level in shown for level in "▂▃▄▅▆▇")


def test_without_a_gpu_the_host_is_shown(run: MadeRun) -> None:
    log = TelemetryLog(run.dir)
    host = HostReading(cpu_frac=0.25, memory_used_bytes=2 << 30, memory_total_bytes=8 << 30)
    log.append(Reading(t=STARTED_T, host=host))
    log.close()

    shown = shown_at(run, "host", "25% cpu", "2/8 GiB", size=(120, 40))

    bars = [line for line in shown.splitlines() if "━╌" in line]
    assert len(bars) == 2  # of the processors and of the memory, both at a quarter
    assert all(3 * bar.count("━") - bar.count("╌") in range(-3, 4) for bar in bars)


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (120, 40), (160, 50), EVERYTHING, (80, 60)])
@pytest.mark.parametrize("is_ascii", [False, True])
def test_every_size_is_drawn(run: MadeRun, size: tuple[int, int], is_ascii: bool) -> None:
    write_train_events(running(run, "train"), 2)

    shown = shown_at(run, "a-run", "8 of 16 steps", size=size, is_ascii=is_ascii)

    panels = "".join(shown.splitlines()[:-1])
    assert not is_ascii or panels.isascii(), {glyph for glyph in panels if not glyph.isascii()}


@pytest.mark.parametrize("size", [(20, 5), (1, 1), (3, 40), (300, 4)])
def test_a_tiny_terminal_does_no_harm(run: MadeRun, size: tuple[int, int]) -> None:
    running(run, "sample")

    async def look() -> None:
        screen = run_screen(run.dir)
        async with opened(screen, root=run.dir.path.parent, size=size) as (app, pilot):
            await until(pilot, lambda: app.screen.view is not None)
            await pilot.resize_terminal(80, 24)
            await until_shown(pilot, "a-run", "running")
            await pilot.resize_terminal(*size)
            await pilot.pause()

    drive(look())


def test_the_cursor_shows_an_older_round_s_own_figures(run: MadeRun) -> None:
    for round in (1, 2, 3):
        run.whole_round(round, **REWARDS)
        attempt = run.dir.attempt(round, "train", 1)
        write_train_events(attempt, round, steps=range(1, round + 2))

    async def look() -> None:
        screen = run_screen(run.dir)
        async with opened(screen, root=run.dir.path.parent, size=EVERYTHING) as (app, pilot):
            await until_shown(pilot, "█ round 3", "training  round 3", "loss  0.25")
            await pilot.press("up")
            await until_shown(pilot, "█ round 2", "training  round 2", "loss  0.33")
            await pilot.press("home")
            await until_shown(pilot, "█ round 1", "training  round 1", "loss  0.50")
            assert app.screen.selected_round == 1
            await pilot.press("end")
            await until_shown(pilot, "█ round 3", "training  round 3", "loss  0.25")
            assert app.screen.selected_round is None
            await pilot.press("slash", "2", "enter")
            await until_shown(pilot, "█ round 2")
            assert app.screen.selected_round == 2
            assert app.focused is app.screen.query_one(RoundTable)

    drive(look())


def test_the_jump_is_left_with_escape(run: MadeRun) -> None:
    run.whole_round(1, **REWARDS)

    async def look() -> None:
        async with opened(run_screen(run.dir), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "a-run")
            await pilot.press("slash")
            await until_shown(pilot, "jump to round")
            await pilot.press("escape")
            await until(pilot, lambda: "jump to round" not in screen_text(app))
            assert app.focused is app.screen.query_one(RoundTable)

    drive(look())


def test_a_thousand_rounds_scroll_under_the_cursor(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, num_rounds=1000, num_prompts=2000)
    for round in range(1, 301):
        run.whole_round(round, **REWARDS)

    async def look() -> None:
        async with opened(run_screen(run.dir), root=tmp_path) as (app, pilot):
            await until_shown(pilot, "round 300 of 1000")
            table = app.screen.query_one(RoundTable)
            await pilot.press("pageup")
            before = table.selected
            assert before is not None
            assert before < 300
            await pilot.press("pageup")
            assert table.selected is not None
            assert before - table.selected == table.size.height - 2
            await pilot.press("pagedown", "pagedown", "pagedown")
            assert table.selected is None

    drive(look())


def test_the_mouse_chooses_a_round_too(run: MadeRun) -> None:
    for round in (1, 2, 3):
        run.whole_round(round, **REWARDS)

    async def look() -> None:
        screen = run_screen(run.dir)
        async with opened(screen, root=run.dir.path.parent, size=EVERYTHING) as (app, pilot):
            await until_shown(pilot, "█ round 3")
            await pilot.click(RoundTable, offset=(4, 2))
            await until_shown(pilot, "█ round 2")
            await pilot.click(RoundTable, offset=(4, 9))
            assert app.screen.selected_round == 2

    drive(look())


def test_eight_gpus_have_a_line_each_where_there_is_little_room(run: MadeRun) -> None:
    log = TelemetryLog(run.dir)
    for number in range(30):
        gpus = tuple(
            GpuReading(
                index=index,
                utilization_frac=0.5,
                memory_used_bytes=(10 + index) << 30,
                memory_total_bytes=80 << 30,
            )
            for index in range(8)
        )
        t = STARTED_T + 10 * number
        log.append(Reading(t=t, host=HostReading(cpu_frac=0.5), gpus=gpus))
    log.close()

    shown = shown_at(run, *[f"{10 + index}/80 GiB" for index in range(8)], size=(140, 40))

    assert shown.count("▅▅▅▅▅▅▅▅   50% busy") == 8


def test_a_single_curve_is_named_also_where_nothing_changes_any_more(run: MadeRun) -> None:
    run.whole_round(1, **REWARDS)
    write_train_events(run.dir.attempt(1, "train", 1), 1)
    run.say(RunCompleted(t=STARTED_T + 90, reason="all rounds are done"))

    shown_at(run, "completed", "loss, round 1", size=(80, 24))


def test_the_next_curve_comes_first(run: MadeRun) -> None:
    write_train_events(running(run, "train"), 2)

    async def look() -> None:
        async with opened(run_screen(run.dir), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "loss, round 2")
            await pilot.press("v")
            await until_shown(pilot, "implicit reward margin")
            assert "loss, round 2" not in screen_text(app)
            for _ in range(5):
                await pilot.press("v")
            await until_shown(pilot, "loss, round 2")
            assert app.screen.query_one(TrainCurves).display

    drive(look())


@pytest.mark.parametrize(
    "key, name, arguments",
    [
        ("c", "completions", {"round": 1}),
        ("l", "logs", {"round": 1}),
    ],
)
def test_keys_open_the_screens_of_the_run_at_the_round_of_the_cursor(
    run: MadeRun, key: str, name: str, arguments: dict[str, int]
) -> None:
    run.whole_round(1, **REWARDS)
    run.whole_round(2, **REWARDS)

    async def look() -> None:
        async with opened(run_screen(run.dir), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "round 2 of 2", "a-run")
            await pilot.press("up", key)
            await until(pilot, lambda: app.opened)
            about = (run.dir,)
            assert app.opened == [(name, about, arguments)]

    drive(look())


def test_new_events_arrive_while_one_looks(run: MadeRun) -> None:
    attempt = running(run, "train")
    write_train_events(attempt, 2, steps=range(1, 5), total=8)

    async def look() -> None:
        async with opened(run_screen(run.dir), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "4 of 8 steps")
            run.finish_stage(2, "train")
            run.finish_round(2)
            run.complete()
            await until_shown(pilot, "completed", "all rounds are done")

    drive(look())


def test_a_corrupt_journal_is_named_and_the_app_goes_on(run: MadeRun) -> None:
    run.whole_round(1, **REWARDS)

    async def look() -> None:
        screen = run_screen(run.dir)
        async with opened(screen, root=run.dir.path.parent, size=(120, 40)) as (app, pilot):
            await until_shown(pilot, "round 1 of 2")
            with run.dir.events.open("ab") as journal:
                journal.write(b'{"type":"Nonsense","t":1}\n')
            await until_shown(pilot, "knows no such event")
            assert app.is_running

    drive(look())


def test_a_run_deleted_while_open_is_said_to_be_gone(run: MadeRun) -> None:
    run.whole_round(1, **REWARDS)

    async def look() -> None:
        screen = run_screen(run.dir)
        async with opened(screen, root=run.dir.path.parent, size=(120, 40)) as (app, pilot):
            await until_shown(pilot, "round 1 of 2")
            shutil.rmtree(run.dir.path)
            await until_shown(pilot, "is no longer there")
            assert "round 1 of 2" in screen_text(app)

    drive(look())


def test_a_run_of_a_later_version_says_what_to_do(run: MadeRun) -> None:
    journal = run.dir.events.read_text()
    run.dir.events.write_text(journal.replace('"schema_version":1', '"schema_version":99', 1))

    shown_at(run, "install that version", "unknown", size=(120, 40))


def test_a_flood_of_events_and_a_moving_cursor_never_block_the_loop(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, num_rounds=1000, num_prompts=2000)
    run.supervised()
    for round in range(1, 201):
        run.whole_round(round, **REWARDS)
    run.start_round(201)
    attempt = run.start_stage(201, "train")

    async def look() -> list[Block]:
        async with opened(run_screen(run.dir), root=tmp_path, size=EVERYTHING) as (_, pilot):
            await until_shown(pilot, "round 201 of 1000")
            with Watchdog() as dog:
                for batch in range(10):
                    steps = range(1 + 1000 * batch, 1001 + 1000 * batch)
                    write = partial(write_train_events, attempt, 201, steps=steps, total=20_000)
                    await asyncio.to_thread(write)
                    await pilot.press("up", "pageup", "down")
                await until_shown(pilot, "10,000 of 20,000 steps")
            return dog.blocks

    drive_unblocked(look)


def test_time_goes_on_in_the_header_only_while_the_run_does(run: MadeRun) -> None:
    run.whole_round(1, **REWARDS)
    run.say(RunPaused(t=STARTED_T + 125.0, reason="by its owner"))

    shown = shown_at(run, "2m05s")

    assert "paused" in shown
