"""What a stage used, worked out by hand; and a thread that nothing waits for and nothing ends."""

from __future__ import annotations

import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from halos_backend.store.run_dir import RunDir
from halos_backend.telemetry import gpu as opening
from halos_backend.telemetry.log import telemetry_tail
from halos_backend.telemetry.reading import GpuProcess, GpuReading, HostReading, Key, Reading
from halos_backend.telemetry.sampler import Sampler, reader
from halos_backend.telemetry.stage_summary import EnergyMeter, StageUse

from tests.support.fake_nvml import FakeGpu, FakeNvml
from tests.support.waiting import wait_for

TRAIN: Key = (1, "train")
LABEL: Key = (1, "label")


def reading(*gpus: GpuReading, cpu: float | None = None, used: int | None = None) -> Reading:
    return Reading(t=0.0, host=HostReading(cpu_frac=cpu, memory_used_bytes=used), gpus=gpus)


# Energy


def measure(*readings: tuple[float, GpuReading], until: float) -> float | None:
    meter = EnergyMeter()
    for at, gpu in readings:
        meter.add(gpu, at=at)
    meter.finish(at=until)
    return meter.joules


def gpu(**fields: float | str | None) -> GpuReading:
    return GpuReading(index=0, **fields)  # type: ignore[arg-type]


def test_energy_is_what_the_counter_rose_and_the_rest_at_the_last_power() -> None:
    joules = measure(
        (10.0, gpu(energy_j=1000.0, power_w=500.0)),
        (12.0, gpu(energy_j=1700.0, power_w=900.0)),
        (14.0, gpu(energy_j=2600.0, power_w=400.0)),
        until=15.5,
    )
    assert joules == 1600.0 + 1.5 * 400.0


def test_without_a_counter_power_is_integrated() -> None:
    joules = measure(
        (10.0, gpu(power_w=100.0)),
        (12.0, gpu(power_w=300.0)),
        (13.0, gpu(power_w=500.0)),
        until=15.0,
    )
    # 2 s at a mean of 200 W, 1 s at 400 W, 2 s at 500 W
    assert joules == 400.0 + 400.0 + 1000.0


def test_without_counter_and_power_energy_is_unknown() -> None:
    assert measure((10.0, gpu()), (12.0, gpu()), until=13.0) is None
    assert measure((10.0, gpu(energy_j=5.0)), until=13.0) is None
    assert measure(until=13.0) is None


def test_the_counter_makes_up_for_the_time_of_a_loss_and_power_does_not() -> None:
    lost = gpu(lost="GPU is lost")
    assert measure((0, gpu(energy_j=10.0)), (2, lost), (4, gpu(energy_j=70.0)), until=9) == 60.0
    assert measure((0, gpu(power_w=10.0)), (2, lost), (4, gpu(power_w=10.0)), until=4) == 0.0
    assert measure((0, gpu(power_w=10.0)), (2, gpu(power_w=10.0)), (4, lost), until=9) == 20.0


def test_a_counter_that_begins_anew_adds_nothing() -> None:
    joules = measure(
        (0, gpu(energy_j=100.0)), (2, gpu(energy_j=3.0)), (4, gpu(energy_j=8.0)), until=4
    )
    assert joules == 5.0


# A stage


def test_means_are_over_time_and_peaks_over_everything() -> None:
    mine = GpuProcess(pid=1, used_bytes=30, round=1, stage="train")
    twin = GpuProcess(pid=2, used_bytes=15, round=1, stage="train")
    others = GpuProcess(pid=3, used_bytes=40, round=1, stage="label")
    use = StageUse(TRAIN)
    first = GpuReading(
        index=0, utilization_frac=1.0, memory_used_bytes=70, processes=(mine, others)
    )
    use.add(reading(first, cpu=1.0, used=500), at=10.0)
    second = GpuReading(index=0, utilization_frac=0.2, memory_used_bytes=45, processes=(mine, twin))
    use.add(reading(second, cpu=0.4, used=900), at=12.0)
    third = GpuReading(index=0, utilization_frac=0.8, memory_used_bytes=20, processes=())
    use.add(reading(third, cpu=0.1, used=100), at=16.0)

    # the first reading tells of the time before the stage
    assert use.summary(at=17.0) == {
        "gpu_utilization_frac": 0.6,  # (2 s x 0.2 + 4 s x 0.8) / 6 s
        "cpu_utilization_frac": 0.2,  # (2 s x 0.4 + 4 s x 0.1) / 6 s
        "gpu_peak_memory_bytes": 70,
        "gpu_own_peak_memory_bytes": 45,
        "host_peak_memory_bytes": 900,
    }


def test_two_gpus_make_one_mean_one_sum_and_the_higher_peak() -> None:
    use = StageUse(TRAIN)
    for at, first_j, second_j in ((0.0, 0.0, 50.0), (2.0, 100.0, 80.0)):
        use.add(
            reading(
                GpuReading(index=0, utilization_frac=1.0, memory_used_bytes=9, energy_j=first_j),
                GpuReading(index=1, utilization_frac=0.5, memory_used_bytes=5, energy_j=second_j),
            ),
            at=at,
        )

    assert use.summary(at=2.0) == {
        "gpu_utilization_frac": 0.75,
        "gpu_energy_j": 130.0,
        "gpu_peak_memory_bytes": 9,
    }


def test_only_the_runs_gpus_count() -> None:
    both = (
        GpuReading(index=0, uuid="GPU-aa", memory_used_bytes=9),
        GpuReading(index=1, uuid="GPU-bb", memory_used_bytes=5),
    )
    for use in (StageUse(TRAIN, devices=(1,)), StageUse(TRAIN, visible="GPU-bb")):
        use.add(reading(*both), at=0.0)
        assert use.summary(at=1.0) == {"gpu_peak_memory_bytes": 5}


def test_what_was_never_read_has_no_key() -> None:
    assert StageUse(TRAIN).summary(at=5.0) == {}
    use = StageUse(TRAIN)
    use.add(reading(GpuReading(index=0, lost="GPU is lost")), at=0.0)
    use.add(reading(GpuReading(index=0, lost="GPU is lost")), at=2.0)
    assert use.summary(at=5.0) == {}


def test_a_hundred_thousand_readings_take_no_more_room_than_ten() -> None:
    use = StageUse(TRAIN)

    def add(first: int, count: int) -> None:
        for number in range(first, first + count):
            gpus = [
                GpuReading(
                    index=index,
                    utilization_frac=0.5,
                    memory_used_bytes=number,
                    energy_j=float(number),
                    power_w=1.0,
                    processes=(GpuProcess(pid=number, used_bytes=number, round=1, stage="train"),),
                )
                for index in range(2)
            ]
            use.add(reading(*gpus, cpu=0.5, used=number), at=float(number))

    add(0, 10)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        add(10, 100_000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert after - before < 4096
    assert use.summary(at=100_009.0)["gpu_energy_j"] == 2 * 100_009.0


# The sampler


class Machine:
    """Readings and a clock as a test wants them."""

    def __init__(self) -> None:
        self.now = 100.0
        self.next = reading()
        self.error: Exception | None = None

    def take(self) -> Reading:
        if self.error is not None:
            raise self.error
        return self.next

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def machine() -> Machine:
    return Machine()


def make(run_dir: RunDir, machine: Machine) -> Sampler:
    return Sampler(run_dir, take=machine.take, monotonic=machine.monotonic, environment={})


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def test_stages_have_the_readings_of_their_own_time(run_dir: RunDir, machine: Machine) -> None:
    sampler = make(run_dir, machine)

    def step(cpu: float, used: int) -> None:
        machine.next = reading(cpu=cpu, used=used)
        sampler.read_once()
        machine.now += 2.0

    step(1.0, 9999)
    sampler.begin(LABEL)
    step(1.0, 100)
    sampler.begin(TRAIN)
    step(0.5, 300)
    step(0.25, 200)
    assert sampler.end(LABEL) == {"cpu_utilization_frac": 0.375, "host_peak_memory_bytes": 300}
    step(0.0, 400)
    assert sampler.end(TRAIN) == {"cpu_utilization_frac": 0.125, "host_peak_memory_bytes": 400}
    assert sampler.end(TRAIN) == {}
    assert len(telemetry_tail(run_dir, 100)) == 5


def test_a_reading_begun_before_a_stage_is_none_of_its_own(
    run_dir: RunDir, machine: Machine
) -> None:
    def take() -> Reading:
        sampler.begin(TRAIN)
        return reading(used=5)

    sampler = Sampler(run_dir, take=take, monotonic=machine.monotonic, environment={})
    sampler.read_once()

    assert sampler.end(TRAIN) == {}


def test_gpus_are_those_of_the_settings_when_the_stage_began(
    run_dir: RunDir, machine: Machine
) -> None:
    machine.next = reading(*(GpuReading(index=i, memory_used_bytes=10 + i) for i in range(3)))
    sampler = Sampler(
        run_dir, take=machine.take, environment={"CUDA_VISIBLE_DEVICES": "1"}, devices=(0,)
    )
    sampler.begin(LABEL)
    sampler.devices = None
    sampler.begin(TRAIN)
    sampler.read_once()

    assert sampler.end(LABEL) == {"gpu_peak_memory_bytes": 10}
    assert sampler.end(TRAIN) == {"gpu_peak_memory_bytes": 11}


def test_what_fails_is_counted_and_tried_again(run_dir: RunDir, machine: Machine) -> None:
    sampler = make(run_dir, machine)
    machine.error = RuntimeError("the driver is upset")
    sampler.read_once()
    sampler.read_once()
    assert (sampler.num_failed, sampler.latest) == (2, None)
    machine.error = None
    sampler.read_once()
    assert (sampler.num_failed, sampler.latest) == (2, machine.next)


def test_a_stage_is_measured_where_nothing_can_be_written(tmp_path: Path, machine: Machine) -> None:
    sampler = make(RunDir(tmp_path / "gone"), machine)
    machine.next = reading(used=7)
    sampler.begin(TRAIN)
    sampler.read_once()

    assert sampler.num_failed == 1
    assert sampler.end(TRAIN) == {"host_peak_memory_bytes": 7}


def test_a_full_device_is_counted_and_no_more(run_dir: RunDir, machine: Machine) -> None:
    run_dir.telemetry.symlink_to("/dev/full")
    sampler = make(run_dir, machine)
    for _ in range(3):
        sampler.read_once()

    assert sampler.num_failed == 3


# The thread


@pytest.fixture
def started(run_dir: RunDir) -> Iterator[Callable[..., Sampler]]:
    made: list[Sampler] = []

    def start(take: Callable[[], Reading], *, interval_s: float = 3600.0) -> Sampler:
        sampler = Sampler(run_dir, take=take, interval_s=interval_s, environment={})
        made.append(sampler)
        sampler.start()
        return sampler

    yield start
    for sampler in made:
        sampler.stop()
    wait_for(lambda: not any(thread.name == "telemetry" for thread in threading.enumerate()))


def test_the_thread_reads_on_and_on_until_it_is_stopped(
    started: Callable[..., Sampler], run_dir: RunDir
) -> None:
    sampler = started(reading, interval_s=0.001)
    wait_for(lambda: len(telemetry_tail(run_dir, 5)) == 5)

    sampler.stop()
    wait_for(lambda: not any(thread.name == "telemetry" for thread in threading.enumerate()))


def test_a_beginning_stage_is_read_at_once(started: Callable[..., Sampler]) -> None:
    sampler = started(lambda: reading(used=7), interval_s=3600.0)
    wait_for(lambda: sampler.latest)
    sampler.latest = None
    sampler.begin(TRAIN)
    wait_for(lambda: sampler.latest)

    # the stage has the reading just after it is the latest one
    ended: list[dict[str, float | int]] = []

    def has_peak() -> bool:
        ended.append(sampler.end(TRAIN))
        if not ended[-1]:
            sampler.begin(TRAIN)
        return bool(ended[-1])

    wait_for(has_peak)
    assert ended[-1] == {"host_peak_memory_bytes": 7}


def test_the_thread_outlives_every_error(started: Callable[..., Sampler]) -> None:
    def fail() -> Reading:
        raise ValueError

    sampler = started(fail, interval_s=0.001)
    wait_for(lambda: sampler.num_failed > 10)


def test_nothing_waits_for_a_driver_that_hangs(started: Callable[..., Sampler]) -> None:
    hanging, release = threading.Event(), threading.Event()

    def hang() -> Reading:
        hanging.set()
        release.wait()
        return reading()

    sampler = started(hang)
    hanging.wait()
    try:
        sampler.begin(TRAIN)
        assert sampler.end(TRAIN) == {}
        sampler.stop()
    finally:
        release.set()


HANGS = """
import sys, threading
from pathlib import Path
from halos_backend.store.run_dir import RunDir
from halos_backend.telemetry.sampler import Sampler
hanging = threading.Event()
def hang():
    hanging.set()
    threading.Event().wait()
sampler = Sampler(RunDir(Path(sys.argv[1])), take=hang)
sampler.start()
hanging.wait()
sampler.stop()
"""


def test_a_program_ends_while_its_driver_hangs(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", HANGS, str(tmp_path)], check=False, timeout=60)
    assert done.returncode == 0


# All of it


def test_a_run_on_a_gpu_is_read_marked_written_and_summed(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml = FakeNvml(FakeGpu("GPU-aa", used=64, processes=[(2**22 + 1, 60)]))
    monkeypatch.setitem(sys.modules, "pynvml", nvml)  # type: ignore[arg-type]
    monkeypatch.setattr(opening, "has_library", lambda: True)
    sampler = Sampler(run_dir, processes=lambda: {TRAIN: {2**22 + 1}}, environment={})
    sampler.begin(TRAIN)
    sampler.read_once()
    nvml.gpus[0].energy_mj = 5000
    nvml.gpus[0].power_mw = 0
    sampler.read_once()
    summary = sampler.end(TRAIN)

    assert sampler.num_failed == 0
    assert summary["gpu_energy_j"] == 5.0
    assert summary["gpu_own_peak_memory_bytes"] == 60
    assert summary["gpu_peak_memory_bytes"] == 64
    assert summary["gpu_utilization_frac"] == 0.5
    last = telemetry_tail(run_dir, 1)[0]
    assert last == sampler.latest
    assert last.gpus[0].processes == (
        GpuProcess(pid=2**22 + 1, used_bytes=60, round=1, stage="train"),
    )


def test_a_machine_without_gpus_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "has_library", lambda: False)
    taken = reader(tmp_path, dict)()

    assert taken.gpus == ()
    assert taken.host.disk_total_bytes


def test_what_runs_beside_the_supervisor_imports_nothing_heavy() -> None:
    heavy = {"pynvml", "psutil", "pydantic", "asyncio", "torch", "numpy"}
    code = f"import sys, halos_backend.telemetry.sampler; print(*({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []
