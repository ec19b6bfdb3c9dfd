"""GPUs as NVML tells of them: all there, some lost, none at all; whose they are, who holds them."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path
from typing import NoReturn

import pynvml
import pytest
from halos_backend.telemetry import gpu as opening
from halos_backend.telemetry.devices import Holder, holders, mark_owners, select_gpus
from halos_backend.telemetry.gpu import REOPEN_S, Gpus, has_library, load_nvml
from halos_backend.telemetry.reading import GpuProcess, GpuReading, Key

from tests.support.fake_nvml import LOST, NOT_LOADED, NOT_SUPPORTED, UNKNOWN, FakeGpu, FakeNvml

GIB = 1 << 30
NOBODY = 2**22 + 1
"""A pid above the kernel's largest."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Two GPUs, in place of the module `pynvml` and the driver's library."""
    fake = FakeNvml(FakeGpu("GPU-aa"), FakeGpu("GPU-bb"))
    monkeypatch.setitem(sys.modules, "pynvml", fake)  # type: ignore[arg-type]
    monkeypatch.setattr(opening, "has_library", lambda: True)
    return fake


# Reading


def test_a_gpu_is_read_in_the_units_that_its_fields_name(nvml: FakeNvml) -> None:
    nvml.gpus[1] = FakeGpu(
        "GPU-bb",
        name="Other GPU",
        utilization=87,
        used=7 * GIB,
        total=80 * GIB,
        power_mw=412_500,
        energy_mj=1_234_500,
        temperature=61,
        processes=[(NOBODY, 6 * GIB)],
    )

    assert Gpus().read()[1] == GpuReading(
        index=1,
        uuid="GPU-bb",
        name="Other GPU",
        utilization_frac=0.87,
        memory_used_bytes=7 * GIB,
        memory_total_bytes=80 * GIB,
        power_w=412.5,
        temperature_c=61,
        energy_j=1234.5,
        processes=(GpuProcess(pid=NOBODY, used_bytes=6 * GIB),),
    )


def test_a_visible_process_has_the_name_and_owner_that_proc_gives(nvml: FakeNvml) -> None:
    nvml.gpus[0].processes = [(os.getpid(), None)]

    assert Gpus().read()[0].processes == (
        GpuProcess(
            pid=os.getpid(),
            used_bytes=None,
            name=Path("/proc/self/comm").read_text().strip(),
            user=pwd.getpwuid(os.getuid()).pw_name,
        ),
    )


def test_handles_names_and_the_driver_are_asked_for_once(nvml: FakeNvml) -> None:
    gpus = Gpus()
    for _ in range(100):
        gpus.read()

    assert (nvml.num_inits, nvml.num_handles) == (1, 2)


@pytest.mark.parametrize(
    ("question", "fields"),
    [
        ("memory", ["memory_used_bytes", "memory_total_bytes"]),
        ("utilization", ["utilization_frac"]),
        ("power", ["power_w"]),
        ("energy", ["energy_j"]),
        ("temperature", ["temperature_c"]),
        ("processes", ["processes"]),
        ("uuid", ["uuid"]),
        ("name", ["name"]),
    ],
)
def test_what_a_gpu_does_not_support_is_none_and_nothing_else(
    nvml: FakeNvml, question: str, fields: list[str]
) -> None:
    nvml.gpus[0].refused[question] = NOT_SUPPORTED

    reading = Gpus().read()[0]

    names = [name for name in reading.__struct_fields__ if getattr(reading, name) is None]
    assert names == [*fields, "lost"]
    assert nvml.num_inits == 1


def test_a_function_that_an_old_driver_lacks_is_none(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(handle: FakeGpu) -> NoReturn:
        raise pynvml.NVMLLibraryMismatchError

    monkeypatch.setattr(nvml, "nvmlDeviceGetComputeRunningProcesses", absent)
    reading = Gpus().read()[0]

    assert (reading.processes, reading.lost, reading.temperature_c) == (None, None, 61)


# None and lost


def test_without_library_package_driver_or_gpu_there_are_no_gpus(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.gpus = []
    assert Gpus().read() == ()
    nvml.broken = NOT_LOADED
    assert Gpus().read() == ()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Gpus().read() == ()
    monkeypatch.setattr(opening, "has_library", lambda: False)
    assert Gpus().read() == ()
    assert nvml.num_inits == 2


def test_a_missing_library_is_found_missing_without_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "LIBRARY", "libno-such-library.so.1")

    assert not has_library()
    assert load_nvml() is None


@pytest.mark.parametrize(("error", "reason"), [(LOST, "GPU is lost"), (UNKNOWN, "Unknown Error")])
def test_a_gpu_that_falls_off_the_bus_is_lost_and_the_others_are_not(
    nvml: FakeNvml, error: int, reason: str
) -> None:
    gpus = Gpus()
    gpus.read()
    nvml.gpus[1].error = error

    first, second = gpus.read()

    assert first.lost is None
    assert second == GpuReading(index=1, uuid="GPU-bb", name="Big GPU", lost=reason)


def test_a_gpu_that_is_lost_from_the_start_is_listed_by_its_number(nvml: FakeNvml) -> None:
    nvml.gpus[0].error = LOST

    assert Gpus().read()[0] == GpuReading(index=0, lost="GPU is lost")


def test_nvml_is_opened_again_after_a_loss_but_not_before_its_time(nvml: FakeNvml) -> None:
    now = Clock()
    gpus = Gpus(monotonic=now)
    gpus.read()
    nvml.gpus[1].error = LOST

    for second in range(0, 300, 2):
        now.now = 1000.0 + second
        assert gpus.read()[1].lost == "GPU is lost"

    # at 1000 for the first time, and at 1030, 1060, ..., 1270
    assert nvml.num_inits == 10
    assert nvml.num_shutdowns == 9


def test_a_gpu_that_comes_back_is_read_again(nvml: FakeNvml) -> None:
    now = Clock()
    gpus = Gpus(monotonic=now)
    gpus.read()
    nvml.gpus[1].error = LOST
    gpus.read()
    nvml.gpus[1].error = None
    now.now += REOPEN_S
    assert gpus.read()[1].lost is None

    now.now += 10 * REOPEN_S
    gpus.read()
    assert nvml.num_inits == 2


def test_a_driver_that_goes_away_leaves_its_gpus_lost_until_it_is_back(nvml: FakeNvml) -> None:
    now = Clock()
    gpus = Gpus(monotonic=now)
    gpus.read()
    nvml.broken = NOT_LOADED
    for gpu in nvml.gpus:
        gpu.error = pynvml.NVML_ERROR_UNINITIALIZED
    assert [gpu.lost for gpu in gpus.read()] == ["Uninitialized"] * 2
    now.now += REOPEN_S
    assert [gpu.lost for gpu in gpus.read()] == ["the driver does not answer"] * 2
    assert [gpu.uuid for gpu in gpus.read()] == ["GPU-aa", "GPU-bb"]

    nvml.broken = None
    for gpu in nvml.gpus:
        gpu.error = None
    now.now += REOPEN_S
    assert [gpu.lost for gpu in gpus.read()] == [None, None]


def test_a_gpu_that_is_missing_when_nvml_is_opened_again_counts_as_lost(nvml: FakeNvml) -> None:
    now = Clock()
    gpus = Gpus(monotonic=now)
    gpus.read()
    nvml.gpus[1].error = LOST
    gpus.read()
    del nvml.gpus[1]
    now.now += REOPEN_S

    assert gpus.read()[1:] == (
        GpuReading(index=1, uuid="GPU-bb", name="Big GPU", lost="it is no longer there"),
    )


# Whose


ALL = tuple(
    GpuReading(index=index, uuid=uuid)
    for index, uuid in enumerate(["GPU-a1", "GPU-a2", "GPU-b1", None])
)


@pytest.mark.parametrize(
    ("devices", "visible", "indices"),
    [
        (None, None, [0, 1, 2, 3]),
        ((1, 3), None, [1, 3]),
        ((1, 9), None, [1]),
        ((), None, []),
        ((0,), "2", [0]),  # the run file's word goes over the environment's
        (None, "2,0", [2, 0]),
        (None, " 2 , 0 ", [2, 0]),
        (None, "2,2", [2]),
        (None, "", []),
        (None, "-1", []),
        (None, "1,-1,2", [1]),
        (None, "NoDevFiles", []),
        (None, "GPU-b1,GPU-a1", [2, 0]),
        (None, "GPU-b", [2]),
        (None, "GPU-a", []),  # names two, so none
        (None, "MIG-1234", []),
        (None, "0,9,1", [0]),
    ],
)
def test_a_runs_gpus_are_those_of_its_settings_or_those_that_cuda_shows(
    devices: tuple[int, ...] | None, visible: str | None, indices: list[int]
) -> None:
    assert [gpu.index for gpu in select_gpus(ALL, devices, visible=visible)] == indices


def test_processes_are_marked_with_the_stage_whose_they_are() -> None:
    mine, foreign = GpuProcess(pid=7), GpuProcess(pid=9)
    gpus = (GpuReading(index=0, processes=(mine, foreign)), GpuReading(index=1, processes=()))
    stages: dict[Key, set[int]] = {(3, "sample"): {5}, (4, "train"): {6, 7}}

    marked = mark_owners(gpus, lambda: stages)

    assert marked == (
        GpuReading(index=0, processes=(GpuProcess(pid=7, round=4, stage="train"), foreign)),
        gpus[1],
    )


def test_nobody_looks_for_processes_while_none_is_on_a_gpu() -> None:
    def find() -> NoReturn:
        raise AssertionError

    idle = (GpuReading(index=0, processes=()), GpuReading(index=1), GpuReading(index=2, lost="x"))
    assert mark_owners(idle, find) == idle


# Held


def gpu(used: int, *processes: GpuProcess, index: int = 0) -> GpuReading:
    return GpuReading(index=index, memory_used_bytes=used, processes=processes)


BIG = GpuProcess(pid=7, used_bytes=30 * GIB, name="python3", user="ada")
SMALL = GpuProcess(pid=8, used_bytes=GIB // 2, name="Xorg")


def test_who_holds_much_is_named_and_who_holds_little_is_not() -> None:
    assert holders([gpu(31 * GIB, BIG, SMALL, index=2)]) == (Holder(2, 30 * GIB, BIG),)
    assert holders([gpu(GIB, SMALL)]) == ()
    assert holders([gpu(GIB, SMALL)], above_bytes=0) == (
        Holder(0, GIB // 2, SMALL),
        Holder(0, GIB // 2, None),
    )


def test_tolerated_processes_hold_nothing() -> None:
    assert holders([gpu(31 * GIB, BIG, SMALL)], tolerated={7}) == ()


def test_a_process_on_two_gpus_holds_both() -> None:
    found = holders([gpu(30 * GIB, BIG), gpu(30 * GIB, BIG, index=1)])
    assert [holder.gpu for holder in found] == [0, 1]


def test_memory_that_no_visible_process_explains_is_held_all_the_same() -> None:
    assert holders([gpu(40 * GIB, BIG)], tolerated={7}) == (Holder(0, 10 * GIB, None),)
    unlisted = GpuReading(index=0, memory_used_bytes=40 * GIB, processes=None)
    assert holders([unlisted]) == (Holder(0, 40 * GIB, None),)


def test_an_untold_share_counts_while_its_gpu_is_full() -> None:
    untold = GpuProcess(pid=7)
    assert holders([gpu(40 * GIB, untold)]) == (Holder(0, None, untold),)
    assert holders([gpu(GIB, untold)]) == ()


def test_a_lost_gpu_holds_nothing() -> None:
    assert holders([GpuReading(index=0, lost="GPU is lost")]) == ()


def test_a_holder_is_said_in_words() -> None:
    unnamed, ownerless = GpuProcess(pid=7), GpuProcess(pid=7, name="python3")
    assert str(Holder(1, 1, BIG)) == "python3 (process 7 of ada), on GPU 1"
    assert str(Holder(1, 1, ownerless)) == "python3 (process 7), on GPU 1"
    assert str(Holder(1, 1, unnamed)) == "process 7, on GPU 1"
    assert str(Holder(1, 1, None)) == "processes that are not visible from here, on GPU 1"
