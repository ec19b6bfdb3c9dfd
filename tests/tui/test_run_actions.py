"""What the keys of the runs and run screens do to runs: requests, questions, answers, refusals."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from halos_backend.client import start
from halos_backend.events import PauseRequested, RunAborted, RunEvent, RunPaused, RunResumed
from halos_backend.store import requests
from halos_backend.store.identity import lock_holder
from textual.pilot import Pilot

from halos_tui.actions import actions_of
from halos_tui.runs.screen import RunsScreen
from halos_tui.screens.dialogs import ChoiceDialog
from tests.support.answering import Answering, wait_for_guardians
from tests.support.app_fixtures import (
    OneScreenApp,
    drive,
    opened,
    run_screen,
    screen_text,
    until,
    until_shown,
)
from tests.support.drive_halos import fake_supervisor
from tests.support.fake_run import MARK, FakeRun
from tests.support.made_run import STARTED_T, MadeRun
from tests.support.waiting import wait_for

SIZES = [(80, 24), (200, 60)]
Act = Callable[[OneScreenApp, Pilot[int]], Coroutine[Any, Any, None]]


@pytest.fixture
def run(tmp_path: Path) -> MadeRun:
    return MadeRun(tmp_path / "runs", num_rounds=5, num_prompts=10)


def notices(app: OneScreenApp) -> str:
    return "\n".join(notice.message for notice in app._notifications)


async def until_told(app: OneScreenApp, pilot: Pilot[int], *texts: str) -> None:
    await until(
        pilot, lambda: all(text in notices(app) for text in texts), what=f"to be told {texts}"
    )


def on_screen_of(
    run: MadeRun, act: Act, *, size: tuple[int, int] = (80, 24), **options: bool
) -> None:
    async def do() -> None:
        root = run.dir.path.parent
        async with opened(run_screen(run.dir), root=root, size=size, **options) as (app, pilot):
            await until_shown(pilot, run.dir.name)
            await act(app, pilot)

    drive(do())


def on_list(root: Path, act: Act, *, size: tuple[int, int] = (80, 24), **options: bool) -> None:
    async def do() -> None:
        async with opened(RunsScreen, root=root, size=size, **options) as (app, pilot):
            await act(app, pilot)

    drive(do())


def train_round_two(run: MadeRun) -> None:
    """The first round is done, the second one trains."""
    run.whole_round(1)
    run.start_round(2)
    for stage in ("sample", "label"):
        run.start_stage(2, stage)
        run.finish_stage(2, stage)
    run.start_stage(2, "train")


# --- pause and resume -----------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("keys", "at", "said"),
    [
        ("r", "round", "pausing at the end of round 2"),
        (("down", "enter"), "round", "pausing at the end of round 2"),
        ("s", "stage", "pausing when train of round 2 is done"),
    ],
)
def test_p_asks_where_and_pauses(
    run: MadeRun, keys: tuple[str, ...], at: str, said: str, size: tuple[int, int]
) -> None:
    train_round_two(run)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("p")
        shown = await until_shown(pilot, "Pause a-run?", "at the end of round 2")
        assert "sooner: when train of round 2 is done" in shown
        await pilot.press(*keys)
        await until_told(app, pilot, said)

    with Answering(run) as supervisor:
        on_screen_of(run, act, size=size)

    (request,) = supervisor.requests
    assert isinstance(request, requests.Pause)
    assert request.at == at
    assert "@" in request.by


@pytest.mark.parametrize("key", ["enter", "escape", "n"])
def test_nothing_pauses_before_a_person_has_chosen_where(run: MadeRun, key: str) -> None:
    train_round_two(run)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("p")
        await until_shown(pilot, "Pause a-run?", "let it go on")
        await pilot.press(key)
        await until(pilot, lambda: not isinstance(app.screen, ChoiceDialog))
        await pilot.pause(0.1)

    with Answering(run) as supervisor:
        on_screen_of(run, act)

    assert supervisor.requests == []


def test_two_quick_presses_send_one_request(run: MadeRun) -> None:
    train_round_two(run)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        supervisor.may_answer.clear()
        await pilot.press("p", "p", "p", "r")
        await until(pilot, lambda: requests.pending(run.dir))
        await pilot.press("p")
        supervisor.may_answer.set()
        await until_told(app, pilot, "pausing")

    with Answering(run) as supervisor:
        on_screen_of(run, act)

    assert len(supervisor.requests) == 1


@pytest.mark.parametrize(
    ("key", "request_type", "said"),
    [("s", requests.Pause, "pausing when train"), ("g", requests.Resume, "goes on")],
)
def test_p_while_pausing_offers_sooner_or_to_go_on(
    run: MadeRun, key: str, request_type: type, said: str
) -> None:
    train_round_two(run)
    run.say(PauseRequested(t=STARTED_T + 50, request_id="r1"))

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("p")
        await until_shown(pilot, "a-run pauses at the end of round 2", "go on after all")
        assert "pause sooner: when train of round 2 is done" in screen_text(app)
        await pilot.press(key)
        await until_told(app, pilot, said)

    with Answering(run) as supervisor:
        on_screen_of(run, act)

    assert isinstance(supervisor.requests[0], request_type)


def test_escape_leaves_a_pausing_run_as_it_is(run: MadeRun) -> None:
    train_round_two(run)
    run.say(PauseRequested(t=STARTED_T + 50, request_id="r1"))

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, ChoiceDialog))
        await pilot.pause(0.1)

    with Answering(run) as supervisor:
        on_screen_of(run, act)

    assert supervisor.requests == []


def test_p_goes_on_with_a_paused_run(run: MadeRun) -> None:
    run.whole_round(1)
    run.say(RunPaused(t=STARTED_T + 50, reason="by its owner"))

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "paused")
        await pilot.press("p")
        await until_told(app, pilot, "a-run: goes on")

    with Answering(run) as supervisor:
        on_screen_of(run, act)

    assert isinstance(supervisor.requests[0], requests.Resume)


def test_what_the_supervisor_refuses_is_said_with_its_reason(run: MadeRun) -> None:
    train_round_two(run)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("p", "r")
        await until_told(app, pilot, "the moon is full")
        assert [notice.severity for notice in app._notifications] == ["error"]

    with Answering(run, refusal="the moon is full"):
        on_screen_of(run, act)


def test_what_cannot_be_is_said_without_asking_anybody(run: MadeRun) -> None:
    run.whole_round(1)
    run.complete()

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("p")
        await until_told(app, pilot, "there is nothing to go on with", "e (Extend) adds rounds")
        await pilot.press("a")
        await until_told(app, pilot, "is completed already")
        await pilot.press("r")
        await until_told(app, pilot, "no stage of it has failed")

    with Answering(run) as supervisor:
        on_screen_of(run, act)

    assert supervisor.requests == []


def test_a_run_that_was_deleted_is_a_notice(run: MadeRun) -> None:
    train_round_two(run)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        run.dir.path.rename(run.dir.path.with_name("gone"))
        await pilot.press("p")
        await until(pilot, lambda: app._notifications)

    on_screen_of(run, act)


# --- abort ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("keys", "when"),
    [("o", "now"), ("s", "stage"), ("r", "round"), (("down", "enter"), "round")],
)
def test_a_asks_when_and_says_what_stays(
    run: MadeRun, keys: tuple[str, ...], when: str, size: tuple[int, int]
) -> None:
    train_round_two(run)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("a")
        shown = await until_shown(pilot, "Abort a-run for good?")
        assert "Stops: train of round 2" in shown
        assert "Stays: the checkpoint of round 1 as the result" in shown
        await pilot.press(*keys)
        await until_told(app, pilot, "abort")

    with Answering(run) as supervisor:
        on_screen_of(run, act, size=size)

    (request,) = supervisor.requests
    assert isinstance(request, requests.Abort)
    assert request.when == when


def test_an_aborted_run_cannot_be_aborted_again(run: MadeRun) -> None:
    run.say(RunAborted(t=STARTED_T + 1, request_id="r1"))

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("a")
        await until_told(app, pilot, "the run a-run is aborted already")

    on_screen_of(run, act)


# --- extend ---------------------------------------------------------------------------------


def test_e_asks_for_how_many_rounds(run: MadeRun) -> None:
    run.whole_round(1)
    run.complete()

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("e")
        await until_shown(pilot, "How many more rounds for a-run?")
        await pilot.press("backspace", "0", "enter")
        await until_shown(pilot, "a whole number from 1 on")
        await pilot.press("backspace", "1", "enter")
        await until_told(app, pilot, "goes on, to round 2")

    with Answering(run) as supervisor:
        on_screen_of(run, act)

    (request,) = supervisor.requests
    assert isinstance(request, requests.Extend)
    assert request.num_rounds == 1


# --- several at once ------------------------------------------------------------------------


def test_several_runs_are_named_in_one_question_and_told_in_one_notice(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    made = [MadeRun(root, name) for name in ("one", "two", "three")]
    for run in made[:2]:
        train_round_two(run)
    made[2].complete()

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "one", "two", "three")
        await pilot.press("ctrl+a", "p")
        shown = await until_shown(pilot, "Pause 2 runs?")
        assert "three: left alone, the run three is completed" in " ".join(shown.split())
        await pilot.press("r")
        await until_told(app, pilot, "2 of 3 runs did as asked", "one: pausing", "two: pausing")
        assert len(app._notifications) == 1

    with ExitStack() as stack:
        supervisors = [stack.enter_context(Answering(run)) for run in made]
        on_list(root, act)

    assert [len(supervisor.requests) for supervisor in supervisors] == [1, 1, 0]


def test_several_runs_are_aborted_together(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    made = [MadeRun(root, name) for name in ("one", "two")]
    for run in made:
        train_round_two(run)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "one", "two")
        await pilot.press("ctrl+a", "a")
        await until_shown(pilot, "Abort 2 runs for good?")
        await pilot.press("r")
        await until_told(app, pilot, "2 of 2 runs did as asked")

    with ExitStack() as stack:
        supervisors = [stack.enter_context(Answering(run)) for run in made]
        on_list(root, act)

    asked = [request for supervisor in supervisors for request in supervisor.requests]
    assert [request.when for request in asked if isinstance(request, requests.Abort)] == [
        "round",
        "round",
    ]


def test_what_is_for_one_run_is_not_done_for_several(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    for name in ("one", "two"):
        train_round_two(MadeRun(root, name))

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "one", "two")
        await pilot.press("ctrl+a", "t")
        await until_told(app, pilot, "that is for one run at a time, and 2 are selected")
        assert app.opened == []

    on_list(root, act)


# --- to other screens -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "screen"),
    [
        ("c", "completions"),
        ("l", "logs"),
        ("h", "changes"),
        ("t", "tweak"),
        ("n", "new_run"),
    ],
)
def test_keys_of_the_list_open_the_screen_of_the_run(run: MadeRun, key: str, screen: str) -> None:
    run.whole_round(1)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "a-run")
        await pilot.press(key)
        await until(pilot, lambda: app.opened)
        assert app.opened[0][0] == screen

    on_list(run.dir.path.parent, act)


def test_without_a_run_its_keys_say_so(tmp_path: Path) -> None:
    keys = ("p", "a", "r", "e", "f", "t", "c", "l", "m", "h", "enter")

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "No runs in")
        await pilot.press(*keys)
        await until(pilot, lambda: notices(app).splitlines() == ["there is no run here"] * 11)
        assert app.opened == []

    on_list(tmp_path, act)


# --- read-only ------------------------------------------------------------------------------


@pytest.mark.parametrize("of_run", [True, False])
def test_read_only_offers_nothing_that_writes(run: MadeRun, *, of_run: bool) -> None:
    train_round_two(run)
    names = ("run", "runs")
    writing = [action for action in actions_of(names[0] if of_run else names[1]) if action.writes]
    assert {action.id for action in writing} >= {"pause", "abort", "retry", "fork", "tweak"}

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "a-run")
        for action in writing:
            await pilot.press(action.keys)
            assert action.title not in screen_text(app).splitlines()[-1]
            assert not await app.run_action(f"screen.{action.id}")
        await pilot.pause(0.1)
        assert len(app.screen_stack) == 2
        assert app.opened == []
        assert notices(app) == ""

    with Answering(run) as supervisor:
        if of_run:
            on_screen_of(run, act, read_only=True)
        else:
            on_list(run.dir.path.parent, act, read_only=True)

    assert supervisor.requests == []


# --- a real supervisor ----------------------------------------------------------------------


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run with fake stages; the app starts real supervisors on it."""
    root = tmp_path / "runs"
    root.mkdir()
    made = FakeRun(root / "a-run", num_rounds=2)
    monkeypatch.setenv(MARK, str(made.dir.path))
    monkeypatch.setattr(start, "_guarded_supervisor", fake_supervisor)
    yield made
    wait_for(lambda: lock_holder(made.dir) is None)
    wait_for(lambda: made.processes() == [])
    wait_for_guardians()
    made.check()


def of_type(run: FakeRun, kind: type[RunEvent]) -> list[Any]:  # type: ignore[type-arg]
    return [event for event in run.events if isinstance(event, kind)]


def test_pause_resume_and_abort_of_a_real_run(real: FakeRun) -> None:
    real.behave(r1_sample_1="hold", r2_sample_1="hold")

    async def act() -> None:
        root = real.dir.path.parent
        async with opened(run_screen(real.dir), root=root) as (app, pilot):
            await until_shown(pilot, "a-run")
            real.start()
            await until(pilot, lambda: (1, "sample") in real.state.active)
            await pilot.press("p", "r")
            await until_told(app, pilot, "pausing at the end of round 1")
            real.release(real.dir.attempt(1, "sample", 1))
            await until(pilot, lambda: real.state.status == "paused")
            await until(pilot, lambda: lock_holder(real.dir) is None)
            await pilot.press("p")
            await until_told(app, pilot, "goes on")
            await until(pilot, lambda: (2, "sample") in real.state.active)
            await pilot.press("a")
            await until_shown(pilot, "Abort a-run for good?")
            await pilot.press("o")
            await until(pilot, lambda: real.state.status == "aborted")

    drive(act())

    assert len(of_type(real, PauseRequested)) == 1
    assert len(of_type(real, RunResumed)) == 1
    assert real.state.rounds[0].checkpoint is not None


def test_a_lost_run_is_taken_up_by_p(real: FakeRun) -> None:
    real.behave(r1_sample_1="hold")

    async def act() -> None:
        root = real.dir.path.parent
        async with opened(run_screen(real.dir), root=root) as (app, pilot):
            supervisor = real.start()
            await until(pilot, lambda: (1, "sample") in real.state.active)
            real.kill(supervisor)
            await until_shown(pilot, "lost")
            await pilot.press("p")
            await until_told(app, pilot, "goes on", "a new one took it up")
            real.release(real.dir.attempt(1, "sample", 1))
            await until(pilot, lambda: real.state.status == "completed")

    drive(act())

    assert real.attempts[0] == (1, "sample", 1)
    assert len([a for a in real.attempts if a[:2] == (1, "sample")]) == 1, "it was adopted"


def test_r_tries_a_failed_stage_again(real: FakeRun) -> None:
    real.behave(r1_train_1="run out of memory")
    real.supervise()
    assert real.state.status == "failed"

    async def act() -> None:
        root = real.dir.path.parent
        async with opened(run_screen(real.dir), root=root) as (app, pilot):
            await until_shown(pilot, "failed")
            await pilot.press("r")
            await until_told(app, pilot, "goes on")
            await until(pilot, lambda: real.state.status == "completed")

    drive(act())

    assert (1, "train", 2) in real.attempts
