"""Which GPUs are whose: between threads of one program, and between real supervisors."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from halos_backend.client.start import refuse_busy
from halos_backend.config.conflicts import find_conflicts
from halos_backend.config.schema import LaunchSettings, RunSettings
from halos_backend.doctor.gpu import examine_devices
from halos_backend.errors import HalosError, RunInUseError, UsageError
from halos_backend.events import StageDelayed, StageFinished, StageStarted
from halos_backend.interpreters.device import device_names
from halos_backend.interpreters.programs import ATTEMPT_TAG, stage_environment
from halos_backend.store.run_dir import RunDir
from halos_backend.store.writer import EventWriter
from halos_backend.supervisor.gpus.locks import RUNTIME_DIR, device_file, runtime_dir
from halos_backend.supervisor.gpus.reservation import (
    Busy,
    Reservation,
    find_busy,
    gpu_numbers,
    reserved_devices,
)
from halos_backend.telemetry.gpu import gpu_number

from tests.support.fake_run import FakeRun
from tests.support.journals import created, settings
from tests.support.waiting import wait_for

HOLD = """
import sys
from pathlib import Path
from halos_backend.config.schema import LaunchSettings
from halos_backend.store.run_dir import RunDir
from halos_backend.supervisor.gpus.reservation import Reservation
reservation = Reservation(RunDir(Path(sys.argv[1])), {})
print(reservation.try_take(LaunchSettings(devices=tuple(map(int, sys.argv[2:])))), flush=True)
import subprocess, os
child = subprocess.Popen(["sleep", "1000"], env={})
print(child.pid, flush=True)
sys.stdin.read()
child.kill()
child.wait()
"""


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(RUNTIME_DIR, str(tmp_path / "runtime"))
    monkeypatch.setattr("halos_backend.supervisor.gpus.reservation.LOOK_AGAIN_S", 0.0)
    return tmp_path / "runtime"


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Programs that hold GPUs; they end with the test."""
    programs: list[subprocess.Popen[str]] = []
    yield programs
    for program in programs:
        program.kill()
        program.communicate()


def launch(*devices: int, queue: bool = False) -> LaunchSettings:
    return LaunchSettings(devices=devices, when_devices_busy="queue" if queue else "refuse")


def reservation(tmp_path: Path, name: str) -> Reservation:
    return Reservation(RunDir(tmp_path / name), {})


def hold(
    started: list[subprocess.Popen[str]], run: Path, *devices: int
) -> tuple[subprocess.Popen[str], int]:
    """A program that holds these, and the pid of a child that it started afterwards."""
    program = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run), *map(str, devices)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    started.append(program)
    assert program.stdout is not None
    assert program.stdout.readline() == "None\n"
    return program, int(program.stdout.readline())


def test_two_runs_of_other_gpus_do_not_meet(tmp_path: Path) -> None:
    one, other = reservation(tmp_path, "one"), reservation(tmp_path, "other")
    assert one.try_take(launch(0, 1)) is None
    assert other.try_take(launch(2)) is None


def test_a_gpu_of_another_run_is_named_with_its_holder(tmp_path: Path) -> None:
    one, other = reservation(tmp_path, "one"), reservation(tmp_path, "other")
    assert one.try_take(launch(0, 1)) is None
    busy = other.try_take(launch(1, 2))
    assert str(busy) == f"GPU 1 is held by the run one ({tmp_path / 'one'})"
    one.release()
    assert other.try_take(launch(1, 2)) is None


def test_a_run_without_devices_takes_and_meets_nothing(tmp_path: Path, runtime: Path) -> None:
    assert reservation(tmp_path, "one").try_take(LaunchSettings()) is None
    assert find_busy(LaunchSettings(), {}) is None
    assert not runtime.exists()


def test_who_cannot_have_all_holds_none(tmp_path: Path) -> None:
    one, both, third = (reservation(tmp_path, name) for name in ("one", "both", "third"))
    assert one.try_take(launch(1)) is None
    assert both.try_take(launch(0, 1)) is not None
    assert find_busy(launch(0), {}) is None
    assert third.try_take(launch(2)) is None


def test_those_who_wait_are_served_in_the_order_of_arrival(tmp_path: Path) -> None:
    """A run of one GPU cannot overtake the run of two that waits for it."""
    first, both, late = (reservation(tmp_path, name) for name in ("first", "both", "late"))
    assert first.try_take(launch(0)) is None
    assert both.try_take(launch(0, 1)) is not None
    busy = late.try_take(launch(1))
    assert str(busy) == "its GPUs are waited for by both since earlier"
    first.release()
    assert isinstance(late.try_take(launch(1)), Busy)
    assert both.try_take(launch(0, 1)) is None
    assert "GPU 1 is held by the run both" in str(late.try_take(launch(1)))
    both.release()
    assert late.try_take(launch(1)) is None


def test_who_gives_up_waiting_is_not_waited_for(tmp_path: Path) -> None:
    first, both, late = (reservation(tmp_path, name) for name in ("first", "both", "late"))
    assert first.try_take(launch(0)) is None
    assert both.try_take(launch(0, 1)) is not None
    both.release()
    assert late.try_take(launch(1)) is None


def test_changed_devices_let_the_others_go(tmp_path: Path) -> None:
    one, other = reservation(tmp_path, "one"), reservation(tmp_path, "other")
    assert one.try_take(launch(0, 1)) is None
    assert one.try_take(launch(1, 2)) is None
    assert other.try_take(launch(0)) is None
    assert other.try_take(launch(2)) is not None


def test_a_killed_supervisor_lets_go_and_its_children_hold_nothing(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    program, child = hold(started, tmp_path / "one", 0)
    mine = reservation(tmp_path, "mine")
    try:
        assert "held by the run one" in str(mine.try_take(launch(0)))
        assert find_busy(launch(0), {}) is not None
        program.send_signal(signal.SIGKILL)
        program.wait()
        assert find_busy(launch(0), {}) is None
        assert mine.try_take(launch(0)) is None
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_killed_supervisor_whose_stage_lives_is_waited_for(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    run, mine = tmp_path / "one", reservation(tmp_path, "mine")
    program, child = hold(started, run, 0)
    attempt = RunDir(run).attempt(1, "train", 1).path
    stage = subprocess.Popen(["sleep", "1000"], env={ATTEMPT_TAG: str(attempt)})
    try:
        program.send_signal(signal.SIGKILL)
        program.wait()
        assert "held by the run one" in str(mine.try_take(launch(0)))
        again = reservation(tmp_path, "one")
        assert again.try_take(launch(0)) is None, "its own run takes them up again at once"
        again.release()
    finally:
        stage.kill()
        stage.wait()
        os.kill(child, signal.SIGKILL)
    wait_for(lambda: mine.try_take(launch(0)) is None)


def test_a_killed_waiter_is_not_waited_for(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    first, late = reservation(tmp_path, "first"), reservation(tmp_path, "late")
    assert first.try_take(launch(0)) is None
    program = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "both"), "0", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    started.append(program)
    assert program.stdout is not None
    assert "held by the run first" in program.stdout.readline()
    child = int(program.stdout.readline())
    try:
        assert late.try_take(launch(1)) is not None
        program.send_signal(signal.SIGKILL)
        program.wait()
        assert late.try_take(launch(1)) is None
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_new_run_is_refused_or_waits_as_its_settings_say(tmp_path: Path) -> None:
    assert reservation(tmp_path, "one") is not None
    holder = reservation(tmp_path, "one")
    assert holder.try_take(launch(0)) is None
    with pytest.raises(RunInUseError, match=r"GPU 0 .* run one .*when_devices_busy=queue"):
        refuse_busy(launch(0), {})
    refuse_busy(launch(1), {})
    refuse_busy(launch(0, queue=True), {})


def test_the_directory_is_the_users_own(runtime: Path) -> None:
    assert stat.S_IMODE(runtime_dir().stat().st_mode) == 0o700
    runtime.chmod(0o770)
    with pytest.raises(HalosError, match="chmod 700"):
        runtime_dir()
    runtime.chmod(0o700)
    elsewhere = runtime.rename(runtime.with_name("elsewhere"))
    runtime.symlink_to(elsewhere)
    with pytest.raises(HalosError, match="not this user's directory"):
        runtime_dir()


def test_a_record_that_is_no_record_is_overwritten(tmp_path: Path) -> None:
    device_file("gpu-0").write_bytes(b"\xff rubbish")
    assert reservation(tmp_path, "one").try_take(launch(0)) is None


def test_devices_count_the_gpus_that_the_environment_shows() -> None:
    shown = {"CUDA_VISIBLE_DEVICES": "4, 6,GPU-abc"}
    assert device_names(launch(1, 0), shown) == ("6", "4")
    assert device_names(launch(2), shown) == ("GPU-abc",)
    assert device_names(launch(1, 0), {}) == ("1", "0")
    assert device_names(LaunchSettings(), shown) == ()
    assert reserved_devices(launch(1, 0), shown) == ("gpu-4", "gpu-6")
    assert gpu_numbers(launch(1, 0), shown) == (4, 6)
    assert gpu_numbers(LaunchSettings(), shown) is None
    with pytest.raises(UsageError, match="no GPU 3"):
        device_names(launch(3), shown)


def test_a_stage_sees_its_runs_gpus_only(tmp_path: Path) -> None:
    made = stage_environment(tmp_path, launch(2, 3), {})
    assert (made["CUDA_VISIBLE_DEVICES"], made["CUDA_DEVICE_ORDER"]) == ("2,3", "PCI_BUS_ID")
    made = stage_environment(tmp_path, launch(1), {"CUDA_VISIBLE_DEVICES": "5,7"})
    assert made["CUDA_VISIBLE_DEVICES"] == "7"
    assert "CUDA_DEVICE_ORDER" not in made, "5 and 7 are numbers in the order they were given in"
    made = stage_environment(tmp_path, LaunchSettings(), {"CUDA_VISIBLE_DEVICES": "5,7"})
    assert made["CUDA_VISIBLE_DEVICES"] == "5,7"


def test_a_stage_on_a_cpu_keeps_its_heap_unless_a_person_says_otherwise(tmp_path: Path) -> None:
    cpu = LaunchSettings(device="cpu")
    made = stage_environment(tmp_path, cpu, {"MALLOC_TRIM_THRESHOLD_": "5"})
    assert made["ACCELERATE_USE_CPU"] == "true"
    assert (made["MALLOC_MMAP_MAX_"], made["MALLOC_TRIM_THRESHOLD_"]) == ("0", "5")


@pytest.mark.parametrize(
    ("changes", "setting", "reason"),
    [
        ({"devices": (0, 1, 1)}, "launch.devices", "names GPU 1 twice"),
        ({"devices": ()}, "launch.devices", "names no GPU"),
        ({"devices": (0,), "device": "cpu"}, "launch.devices", "has no effect"),
        (
            {"devices": (0, 2), "num_processes": 4},
            "launch.num_processes",
            "4 processes need a GPU each, and launch.devices names 2: write at most 2",
        ),
    ],
)
def test_devices_that_cannot_be_are_refused(
    changes: dict[str, object], setting: str, reason: str
) -> None:
    ((path, said),) = find_conflicts(settings(launch=changes))
    assert path == setting
    assert reason in said


class Driver:
    """As much of NVML as counts GPUs and names them."""

    NVMLError = RuntimeError

    def __init__(self, *uuids: str) -> None:
        self.uuids = uuids

    def nvmlDeviceGetCount(self) -> int:
        return len(self.uuids)

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:
        return number

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return self.uuids[handle]

    def nvmlShutdown(self) -> None:
        pass


def test_the_doctor_counts_the_gpus() -> None:
    driver = Driver("GPU-a", "GPU-b")
    assert examine_devices(launch(0, 1), lambda: driver).level == "ok"
    assert examine_devices(LaunchSettings(), lambda: driver).level == "ok"
    found = examine_devices(launch(0, 2), lambda: driver)
    assert (found.level, found.fix) == ("problem", "name GPUs from 0 to 1")
    assert "launch.devices = [0, 2], and there are 2" in found.text
    assert examine_devices(launch(0), lambda: None).level == "warning"


def test_a_uuid_is_the_number_of_one_gpu() -> None:
    driver = Driver("GPU-a1", "GPU-b2", "GPU-b3")
    assert gpu_number("GPU-a", lambda: driver) == 0
    assert gpu_number("GPU-b3", lambda: driver) == 2
    assert gpu_number("GPU-b", lambda: driver) is None
    assert gpu_number("MIG-a", lambda: driver) is None
    assert gpu_number("GPU-a", lambda: None) is None


@pytest.fixture
def fake_runs(
    tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[FakeRun, FakeRun]]:
    """Two runs of GPU 0; the second waits for it. Their supervisors are real, their stages not."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    made = FakeRun(tmp_path / "first"), FakeRun(tmp_path / "second")
    for run, when in zip(made, ("refuse", "queue"), strict=True):
        plain = settings(num_rounds=1, prompts_per_round=2).model_dump(mode="json")
        plain["launch"] |= {"devices": [0], "when_devices_busy": when}
        run.dir.events.unlink()
        with EventWriter(run.dir.events) as writer:
            writer.append(created(RunSettings.model_validate(plain)), durable=True)
    yield made
    for run in made:
        run.check()


def test_a_supervisor_waits_until_the_other_run_has_ended(
    fake_runs: tuple[FakeRun, FakeRun],
) -> None:
    first, second = fake_runs
    first.behave(r1_sample_1="hold")
    supervisor = first.start()
    stage = first.hold(1, "sample")
    waiting = second.start()
    wait_for(lambda: second.state.obstacle)
    assert second.state.obstacle == f"GPU 0 is held by the run first ({first.dir.path})"
    assert second.attempts == []

    first.release(stage)

    assert (supervisor.wait(timeout=30), waiting.wait(timeout=30)) == (0, 0)
    assert [run.state.status for run in fake_runs] == ["completed", "completed"]
    last = max(event.t for event in first.events if isinstance(event, StageFinished))
    starts = [event for event in second.events if isinstance(event, StageStarted)]
    assert all(event.t > last and event.devices == ["0"] for event in starts)
    assert len([event for event in second.events if isinstance(event, StageDelayed)]) == 1


def test_a_killed_supervisors_gpus_stay_its_stages_until_they_end(
    fake_runs: tuple[FakeRun, FakeRun],
) -> None:
    first, second = fake_runs
    first.behave(r1_sample_1="hold and fail")
    stage_holds = first.start()
    stage = first.hold(1, "sample")
    waiting = second.start()
    wait_for(lambda: second.state.obstacle)
    first.kill(stage_holds)
    assert find_busy(LaunchSettings(devices=(0,)), {}) is not None
    assert second.attempts == []
    first.release(stage)
    assert waiting.wait(timeout=30) == 0
    assert second.state.status == "completed"
    assert first.supervise() == 0
    assert first.state.status == "completed"
