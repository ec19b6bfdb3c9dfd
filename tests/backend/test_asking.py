"""Asking a supervisor: the answer comes back, whoever lives; and whether its heart beats."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import msgspec
import pytest
from halos_backend.client import start
from halos_backend.client.ask import ask, asker
from halos_backend.errors import HalosError, UsageError
from halos_backend.events import PauseRequested, ProcessIdentity, RequestRejected, SettingsChanged
from halos_backend.store.identity import lock_holder, own_identity
from halos_backend.store.liveness import living_supervisor, silence_s, stalled_for_s
from halos_backend.store.requests import Extend, Pause, Set

from tests.support.fake_run import FakeRun
from tests.support.waiting import wait_for

MakeRun = Callable[..., FakeRun]
ELSEWHERE = ProcessIdentity(pid=1, start_time=1.0, boot_id="another", host="elsewhere")


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """The guardians that asking started end by themselves."""
    yield
    wait_for(lambda: all(child.poll() is not None for child in start._started))


@pytest.fixture
def held(make_run: MakeRun) -> Iterator[FakeRun]:
    """A supervised run whose first stage holds until the test is over."""
    run = make_run()
    run.behave(r1_sample_1="hold")
    supervisor = run.start()
    attempt = run.hold(1, "sample")
    yield run
    supervisor.send_signal(signal.SIGCONT)
    run.release(attempt)
    supervisor.wait()


def test_the_answer_of_a_living_supervisor_comes_back(held: FakeRun) -> None:
    event = ask(held.dir, Pause(request_id="one", by="alice@box"))

    assert event == PauseRequested(t=event.t, request_id="one", at="round")
    again = ask(held.dir, Pause(request_id="two"))
    assert isinstance(again, RequestRejected)
    assert again.reason == "the run run is pausing already"


def test_a_run_without_a_process_is_asked_all_the_same(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_sample_1="run out of memory")
    run.supervise()
    assert run.state.status == "failed"

    event = ask(run.dir, Set(request_id="one", assignments=("train.lr=1e-3",)))

    assert isinstance(event, SettingsChanged)
    wait_for(lambda: lock_holder(run.dir) is None)
    assert run.state.status == "failed"
    assert len(run.attempts) == 1


def test_a_torn_tail_of_the_journal_is_no_answer(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_sample_1="run out of memory")
    run.supervise()
    with run.dir.events.open("ab") as journal:
        journal.write(b'{"type":"RunResumed","t":1.0,"request_')

    event = ask(run.dir, Set(request_id="one", assignments=("train.lr=1e-3",)))

    assert isinstance(event, SettingsChanged)
    wait_for(lambda: lock_holder(run.dir) is None)


def test_a_stopped_supervisor_does_not_answer_until_it_goes_on(held: FakeRun) -> None:
    holder = lock_holder(held.dir)
    assert holder is not None
    os.kill(holder.pid, signal.SIGSTOP)

    with pytest.raises(HalosError, match=f"process {holder.pid}.*does not answer.*stays in"):
        ask(held.dir, Pause(request_id="one"), timeout_s=0.3)

    assert lock_holder(held.dir) == holder
    os.kill(holder.pid, signal.SIGCONT)
    wait_for(lambda: held.state.status == "pausing")


@pytest.mark.parametrize(
    "request_",
    [
        Set(request_id="r", assignments=("train.lr=" + "1" * 70_000,)),
        Set(request_id="r", assignments=("train.lr=1",) * 201),
        Extend(request_id="r", num_rounds=0),
        Pause(request_id="not an id"),
    ],
)
def test_what_no_supervisor_would_read_is_not_sent(
    make_run: MakeRun, request_: Set | Extend | Pause
) -> None:
    run = make_run()

    with pytest.raises(UsageError):
        ask(run.dir, request_)

    assert not run.dir.control.exists()


def test_who_asks_is_a_user_on_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "alice")
    assert asker() == f"alice@{own_identity().host}"
    monkeypatch.setenv("LOGNAME", "x" * 500)
    assert len(asker()) == 200


def _recorded(run: FakeRun, holder: ProcessIdentity, *, age_s: float) -> None:
    """A lock taken, and a heart that beat last, that long ago."""
    run.dir.lock.write_bytes(msgspec.json.encode(holder))
    run.dir.heartbeat.write_text("1\n")
    for path in (run.dir.lock, run.dir.heartbeat):
        then = path.stat().st_mtime - age_s
        os.utime(path, (then, then))


@pytest.mark.parametrize(("age_s", "is_stalled"), [(0.0, False), (60.0, True)])
def test_a_supervisor_of_this_host_lives_whether_its_heart_beats_or_not(
    make_run: MakeRun, age_s: float, is_stalled: bool
) -> None:
    run = make_run()
    _recorded(run, own_identity(), age_s=age_s)

    assert living_supervisor(run.dir) == own_identity()
    assert (stalled_for_s(run.dir, own_identity()) is not None) == is_stalled


@pytest.mark.parametrize(("age_s", "lives"), [(60.0, True), (120.0, False)])
def test_a_supervisor_of_another_host_lives_while_its_heart_beats(
    make_run: MakeRun, age_s: float, lives: bool
) -> None:
    run = make_run()
    _recorded(run, ELSEWHERE, age_s=age_s)

    assert living_supervisor(run.dir) == (ELSEWHERE if lives else None)
    assert stalled_for_s(run.dir, ELSEWHERE) is None


def test_a_supervisor_that_has_just_begun_is_not_silent_since_the_last_one(
    make_run: MakeRun,
) -> None:
    run = make_run()
    _recorded(run, own_identity(), age_s=60.0)
    run.dir.lock.write_bytes(msgspec.json.encode(own_identity()))

    assert silence_s(run.dir) < 60.0


def test_without_any_sign_the_silence_is_endless(make_run: MakeRun) -> None:
    assert silence_s(make_run().dir) == float("inf")
