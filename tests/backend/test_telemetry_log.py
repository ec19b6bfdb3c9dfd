"""The file of readings: one line each, rotated, cut off, unwritable, and read from its end."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from halos_backend.store.run_dir import RunDir
from halos_backend.telemetry import log as logging
from halos_backend.telemetry.log import TelemetryLog, telemetry_tail
from halos_backend.telemetry.reading import GpuProcess, GpuReading, HostReading, Reading

FULL = Reading(
    t=1.5,
    host=HostReading(
        cpu_frac=0.25,
        load_1min=1.5,
        memory_used_bytes=1,
        memory_available_bytes=2,
        memory_total_bytes=3,
        disk_free_bytes=4,
        disk_total_bytes=5,
        num_oom_kills=0,
    ),
    gpus=(
        GpuReading(
            index=0,
            uuid="GPU-aa",
            name="Big GPU",
            utilization_frac=0.5,
            memory_used_bytes=6,
            memory_total_bytes=7,
            power_w=8.5,
            temperature_c=9,
            energy_j=10.5,
            processes=(
                GpuProcess(pid=1, used_bytes=2, name="é", user="u", round=3, stage="train"),
            ),
        ),
        GpuReading(index=1, lost="GPU is lost"),
    ),
)


def at(t: float) -> Reading:
    return Reading(t=t, host=HostReading(cpu_frac=0.5))


LINE_BYTES = len(msgspec.json.encode(at(1.0))) + 1


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def write(run_dir: RunDir, times: range, *, max_bytes: int = 1 << 20) -> None:
    log = TelemetryLog(run_dir, max_bytes=max_bytes)
    for t in times:
        log.append(at(float(t)))
    log.close()


def times(run_dir: RunDir, count: int) -> list[float]:
    return [reading.t for reading in telemetry_tail(run_dir, count)]


# Writing


def test_a_reading_is_given_back_as_it_was(run_dir: RunDir) -> None:
    log = TelemetryLog(run_dir)
    log.append(FULL)
    log.append(at(2.0))
    log.close()

    assert telemetry_tail(run_dir, 5) == [FULL, at(2.0)]
    assert run_dir.telemetry.read_bytes().endswith(b'{"t":2.0,"host":{"cpu_frac":0.5}}\n')
    assert stat.S_IMODE(run_dir.telemetry.stat().st_mode) == 0o600


def test_a_full_file_becomes_the_old_one_and_the_old_one_goes(run_dir: RunDir) -> None:
    # lines of t < 10 have one digit less than those above
    write(run_dir, range(1, 10), max_bytes=4 * LINE_BYTES)

    assert run_dir.telemetry.read_bytes() == b"".join(
        msgspec.json.encode(at(float(t))) + b"\n" for t in (9,)
    )
    assert run_dir.old_telemetry.read_bytes().count(b"\n") == 4
    assert times(run_dir, 100) == [5, 6, 7, 8, 9]
    assert {path.name for path in run_dir.path.iterdir()} == {
        "telemetry.jsonl",
        "telemetry.1.jsonl",
    }


def test_a_line_longer_than_the_limit_is_written_all_the_same(run_dir: RunDir) -> None:
    write(run_dir, range(1, 4), max_bytes=1)

    assert times(run_dir, 100) == [2, 3]


def test_a_later_writer_goes_on_after_a_torn_line(run_dir: RunDir) -> None:
    write(run_dir, range(1, 3))
    run_dir.telemetry.write_bytes(run_dir.telemetry.read_bytes()[:-5])
    write(run_dir, range(3, 5))

    assert times(run_dir, 100) == [1, 3, 4]


def test_a_deleted_file_is_made_anew(run_dir: RunDir) -> None:
    log = TelemetryLog(run_dir)
    log.append(at(1.0))
    run_dir.telemetry.unlink()
    log.append(at(2.0))
    log.close()

    assert times(run_dir, 100) == [2]


def test_a_deleted_run_stays_deleted(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        TelemetryLog(run_dir).append(at(1.0))

    assert not run_dir.path.exists()


def test_what_a_full_disk_cuts_off_is_taken_back(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = TelemetryLog(run_dir)
    log.append(at(1.0))
    real, room = os.write, [10]

    def fill(fd: int, content: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, content[: room.pop()])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fill)
        for _ in range(2):
            with pytest.raises(OSError):
                log.append(at(2.0))
            assert run_dir.telemetry.stat().st_size == LINE_BYTES
    log.append(at(3.0))
    log.close()

    assert times(run_dir, 100) == [1, 3]


FILE_SIZE_LIMIT = """
import resource, signal, sys
from pathlib import Path
from halos_backend.store.run_dir import RunDir
from halos_backend.telemetry.log import TelemetryLog
from halos_backend.telemetry.reading import HostReading, Reading
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
log, failed = TelemetryLog(RunDir(Path(sys.argv[1]))), 0
for t in range(1000):
    try:
        log.append(Reading(t=float(t), host=HostReading(cpu_frac=0.5)))
    except OSError:
        failed += 1
print(failed)
"""


def test_a_limit_on_file_size_leaves_whole_lines(run_dir: RunDir) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILE_SIZE_LIMIT, str(run_dir.path)],
        capture_output=True,
        text=True,
        check=True,
    )

    content = run_dir.telemetry.read_bytes()
    assert 1000 - LINE_BYTES - 2 < len(content) <= 1000
    assert content.endswith(b"\n")
    num_lines = content.count(b"\n")
    assert int(done.stdout) == 1000 - num_lines
    assert times(run_dir, 1000) == list(range(num_lines))


# Reading the end


def test_without_a_file_there_are_no_readings(run_dir: RunDir) -> None:
    assert telemetry_tail(run_dir, 10) == []


@pytest.mark.parametrize("block_bytes", [1, 7, LINE_BYTES, 100, 1 << 16])
def test_the_end_is_the_same_whatever_is_read_at_once(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    write(run_dir, range(1, 50))
    monkeypatch.setattr(logging, "BLOCK_BYTES", block_bytes)

    for count in (0, 1, 2, 10, 48, 49, 50):
        assert times(run_dir, count) == list(range(50 - count, 50))[-49:]


def test_a_torn_line_is_passed_over_at_every_byte(run_dir: RunDir) -> None:
    write(run_dir, range(1, 3))
    whole = run_dir.telemetry.read_bytes()
    torn = msgspec.json.encode(FULL)

    for size in range(len(torn) + 1):
        run_dir.telemetry.write_bytes(whole + torn[:size])
        assert times(run_dir, 5) == [1, 2]


@pytest.mark.parametrize("garbage", [b"", b"\0\xff\n", b'{"t":"x"}\n', b"[1]\n", b"{}\n"])
def test_lines_that_are_no_readings_are_passed_over(run_dir: RunDir, garbage: bytes) -> None:
    write(run_dir, range(1, 3))
    content = run_dir.telemetry.read_bytes()
    run_dir.telemetry.write_bytes(garbage + content.replace(b"\n", b"\n" + garbage))

    assert times(run_dir, 2) == [1, 2]


def test_fields_of_a_later_version_are_passed_over(run_dir: RunDir) -> None:
    run_dir.telemetry.write_bytes(b'{"t":1.0,"new":{},"host":{"newer":[1]},"gpus":[]}\n')

    assert telemetry_tail(run_dir, 1) == [Reading(t=1.0, host=HostReading())]


def test_a_file_rotated_between_two_looks_is_not_seen_twice(run_dir: RunDir) -> None:
    write(run_dir, range(1, 5))
    run_dir.old_telemetry.write_bytes(run_dir.telemetry.read_bytes())

    assert times(run_dir, 100) == [1, 2, 3, 4]


def test_only_the_end_of_a_long_file_is_read(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir.telemetry.write_bytes(b"x" * (1 << 20))
    write(run_dir, range(1, 20))
    read: list[int] = []
    real = logging._decode

    def watch(lines: list[bytes], count: int) -> list[Reading]:
        read.append(sum(map(len, lines)))
        return real(lines, count)

    monkeypatch.setattr(logging, "_decode", watch)
    assert times(run_dir, 10) == list(range(10, 20))
    assert sum(read) <= 1 << 16
