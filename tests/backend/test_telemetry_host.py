"""The host as /proc and the memory cgroup tell of it, in both versions and in none."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil
import pytest
from halos_backend.telemetry.host import Host, MemoryCgroup, MemoryUse, read_oom_kills

MIB = 1 << 20
UNLIMITED_V1 = "9223372036854771712\n"


def write(folder: Path, **files: str) -> Path:
    """Files named with `_` for the first `.`, as in `memory_max`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".", 1)).write_text(content)
    return folder


def proc(tmp_path: Path, *, cgroup: str, total_mib: int = 1000, available_mib: int = 400) -> Path:
    folder = tmp_path / "proc"
    (folder / "self").mkdir(parents=True, exist_ok=True)
    (folder / "self" / "cgroup").write_text(cgroup)
    (folder / "meminfo").write_text(
        f"MemTotal:       {total_mib * 1024} kB\nMemFree:         5 kB\n"
        f"MemAvailable:   {available_mib * 1024} kB\nBuffers:         1 kB\n"
    )
    return folder


VERSION_1 = "12:pids:/x\n4:memory,hugetlb:/box/run\n1:name=systemd:/\n0::/\n"
VERSION_2 = "0::/user.slice/run.scope\n"


@pytest.fixture
def limited_v1(tmp_path: Path) -> tuple[Path, Path]:
    """(proc, cgroups): the box has 300 MiB, the run in it has no limit of its own."""
    root = tmp_path / "cgroup"
    write(
        root / "memory",
        memory_limit_in_bytes=UNLIMITED_V1,
        memory_usage_in_bytes=f"{900 * MIB}\n",
        memory_oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 99\n",
    )
    write(
        root / "memory" / "box",
        memory_limit_in_bytes=f"{300 * MIB}\n",
        memory_usage_in_bytes=f"{200 * MIB}\n",
        memory_stat=f"inactive_file 1\ntotal_inactive_file {50 * MIB}\n",
    )
    write(
        root / "memory" / "box" / "run",
        memory_limit_in_bytes=UNLIMITED_V1,
        memory_usage_in_bytes=f"{10 * MIB}\n",
        memory_oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    )
    return proc(tmp_path, cgroup=VERSION_1), root


@pytest.fixture
def limited_v2(tmp_path: Path) -> tuple[Path, Path]:
    """(proc, cgroups): the run has 500 MiB, the slice around it has 800."""
    root = tmp_path / "cgroup"
    write(root, memory_stat="")
    write(
        root / "user.slice",
        memory_max=f"{800 * MIB}\n",
        memory_current=f"{700 * MIB}\n",
        memory_events="low 0\noom 7\noom_kill 7\n",
    )
    write(
        root / "user.slice" / "run.scope",
        memory_max=f"{500 * MIB}\n",
        memory_current=f"{450 * MIB}\n",
        memory_stat=f"anon 5\ninactive_file {100 * MIB}\n",
        memory_events="low 0\nhigh 0\nmax 9\noom 4\noom_kill 2\noom_group_kill 1\n",
    )
    return proc(tmp_path, cgroup=VERSION_2), root


# Kills


def test_kills_of_version_1_are_in_oom_control(limited_v1: tuple[Path, Path]) -> None:
    assert read_oom_kills(proc=limited_v1[0], cgroups=limited_v1[1]) == 3


def test_kills_of_version_2_are_in_events(limited_v2: tuple[Path, Path]) -> None:
    assert read_oom_kills(proc=limited_v2[0], cgroups=limited_v2[1]) == 2


def test_a_level_without_a_counter_leaves_it_to_the_next(limited_v2: tuple[Path, Path]) -> None:
    (limited_v2[1] / "user.slice" / "run.scope" / "memory.events").unlink()
    assert read_oom_kills(proc=limited_v2[0], cgroups=limited_v2[1]) == 7


@pytest.mark.parametrize("cgroup", [VERSION_2, "0::/../elsewhere\n", "0::/\n"])
def test_a_containers_cgroup_may_be_the_root_of_what_it_sees(tmp_path: Path, cgroup: str) -> None:
    root = write(tmp_path / "cgroup", memory_events="oom_kill 5\n", memory_max="max\n")
    write(tmp_path / "elsewhere", memory_events="oom_kill 6\n")
    assert read_oom_kills(proc=proc(tmp_path, cgroup=cgroup), cgroups=root) == 5


@pytest.mark.parametrize(
    "content", ["", "oom_kill\n", "oom_kill many\n", "oom_kill_disable 0\n", "\0\xff"]
)
def test_kills_that_cannot_be_read_are_none(tmp_path: Path, content: str) -> None:
    root = write(tmp_path / "cgroup", memory_events=content)
    assert read_oom_kills(proc=proc(tmp_path, cgroup="0::/\n"), cgroups=root) is None


@pytest.mark.parametrize("cgroup", ["", "garbage", "0", VERSION_1, VERSION_2])
def test_without_a_cgroup_kills_and_limits_are_none(tmp_path: Path, cgroup: str) -> None:
    folder, root = proc(tmp_path, cgroup=cgroup), tmp_path / "nowhere"
    assert read_oom_kills(proc=folder, cgroups=root) is None
    assert MemoryCgroup(proc=folder, root=root).use() is None
    assert read_oom_kills(proc=tmp_path / "no-proc", cgroups=root) is None


# Memory


def test_the_lowest_limit_counts_and_cache_is_not_use(
    limited_v1: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, root = limited_v1
    assert MemoryCgroup(proc=folder, root=root).use() == MemoryUse(300 * MIB, 150 * MIB)
    reading = Host(tmp_path, proc=folder, cgroups=root).read()
    assert reading.memory_total_bytes == 300 * MIB
    assert reading.memory_used_bytes == 150 * MIB
    assert reading.memory_available_bytes == 150 * MIB
    assert reading.num_oom_kills == 3


def test_what_is_available_is_what_limit_and_machine_both_leave(
    limited_v2: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, root = limited_v2
    reading = Host(tmp_path, proc=folder, cgroups=root).read()
    assert reading.memory_total_bytes == 500 * MIB
    assert reading.memory_used_bytes == 350 * MIB
    assert reading.memory_available_bytes == 150 * MIB

    proc(tmp_path, cgroup=VERSION_2, available_mib=60)
    assert Host(tmp_path, proc=folder, cgroups=root).read().memory_available_bytes == 60 * MIB


def test_a_limit_above_the_machines_memory_is_none(
    limited_v2: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, root = limited_v2
    proc(tmp_path, cgroup=VERSION_2, total_mib=500, available_mib=400)
    reading = Host(tmp_path, proc=folder, cgroups=root).read()
    assert reading.memory_total_bytes == 500 * MIB
    assert reading.memory_used_bytes == 100 * MIB


# Processors


def stat(folder: Path, line: str) -> None:
    (folder / "stat").write_text(f"cpu  {line}\ncpu0 1 1 1 1 1 1 1 1 0 0\nintr 5\n")


def test_processor_use_is_the_busy_share_since_the_last_reading(tmp_path: Path) -> None:
    folder = proc(tmp_path, cgroup="")
    host = Host(tmp_path, proc=folder, cgroups=tmp_path)
    stat(folder, "100 10 50 800 40 0 0 0 0 0")
    assert host.read().cpu_frac is None

    # busy: user 20, nice 0, system 5, irq 1, softirq 2, steal 2 = 30; idle 60 and waiting 10.
    # Guests are in user already, so 7 more of them count for nothing.
    stat(folder, "120 10 55 860 50 1 2 2 7 0")
    assert host.read().cpu_frac == 0.3

    assert host.read().cpu_frac is None  # no tick has passed
    stat(folder, "120 10 55 960 20 1 2 2 7 0")  # waiting is sometimes counted back
    assert host.read().cpu_frac == 0.0


@pytest.mark.parametrize("content", ["", "cpu", "cpu  1 2 x 4 5 6 7 8", "cpu  1 2 3"])
def test_a_file_of_another_form_is_unknown_use(tmp_path: Path, content: str) -> None:
    folder = proc(tmp_path, cgroup="")
    (folder / "stat").write_text(content)
    host = Host(tmp_path, proc=folder, cgroups=tmp_path)
    host.read()
    assert host.read().cpu_frac is None


# This machine


def test_this_machine_is_read_as_psutil_reads_it(tmp_path: Path) -> None:
    no_cgroup = tmp_path / "none"
    reading = Host(tmp_path, cgroups=no_cgroup).read()
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(tmp_path)

    assert reading.memory_total_bytes == memory.total
    assert reading.memory_available_bytes == pytest.approx(memory.available, rel=0.2)
    assert reading.memory_used_bytes is not None
    assert reading.memory_available_bytes is not None
    assert reading.memory_used_bytes + reading.memory_available_bytes == memory.total
    assert reading.disk_total_bytes == disk.total
    assert reading.disk_free_bytes == pytest.approx(disk.free, rel=0.05)
    assert reading.load_1min is not None
    assert reading.num_oom_kills is None


def test_a_whole_of_what_is_unreadable_is_a_reading_of_nothing(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    reading = Host(nowhere, proc=nowhere, cgroups=nowhere).read()
    known = {name for name in reading.__struct_fields__ if getattr(reading, name) is not None}
    assert known <= {"load_1min"}


@pytest.mark.skipif(not Path("/proc/self/cgroup").exists(), reason="no cgroups here")
def test_kills_of_this_process_are_a_number_where_its_cgroup_shows_one() -> None:
    kills = read_oom_kills()
    assert kills is None or kills >= 0
