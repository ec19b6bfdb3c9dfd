"""Reads what the machine and its GPUs did lately, from the run's telemetry, in bounded memory.

Readings are joined to means of some seconds, so that a curve moves on only once in a while.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from halos_backend import clock
from halos_backend.store.run_dir import RunDir
from halos_backend.telemetry.log import telemetry_tail
from halos_backend.telemetry.reading import GpuProcess, GpuReading, HostReading, Reading

from halos_tui.formatting import size
from halos_tui.run.view import DeviceView, MachineView

NUM_READINGS = 900
"""The last half hour is read at first."""
NUM_NEWEST = 16
PIECE_S = 10.0
MOST_PIECES = 240
OLD_S = 10
MOST_OTHERS = 3


class MachineHistory:
    """`read` reads the telemetry anew if there is any; `view` is what to draw."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._histories: dict[str, _History] = {}
        self._newest: Reading | None = None
        self._seen: tuple[int, int] | None = None
        self.view = MachineView()

    def read(self, *, is_due: bool) -> None:
        """Reads; with `is_due` readings should be coming in, so that an old one means something."""
        for reading in self._new_readings():
            self._add(reading)
        self.view = self._view(is_due=is_due)

    def _new_readings(self) -> list[Reading]:
        found = _signature(self._run_dir)
        if found == self._seen:
            return []
        self._seen = found
        if self._newest is None:
            return telemetry_tail(self._run_dir, NUM_READINGS)
        last_t = self._newest.t
        newest = telemetry_tail(self._run_dir, NUM_NEWEST)
        if len(newest) == NUM_NEWEST and newest[0].t > last_t:
            newest = telemetry_tail(self._run_dir, NUM_READINGS)
        return [reading for reading in newest if reading.t > last_t]

    def _add(self, reading: Reading) -> None:
        self._newest = reading
        host = reading.host
        self._of("host").add(reading.t, host.cpu_frac, _frac(*_host_memory(host)))
        for gpu in reading.gpus:
            memory = _frac(gpu.memory_used_bytes, gpu.memory_total_bytes)
            self._of(_key(gpu)).add(reading.t, gpu.utilization_frac, memory)

    def _of(self, key: str) -> _History:
        return self._histories.setdefault(key, _History())

    def _view(self, *, is_due: bool) -> MachineView:
        newest = self._newest
        if newest is None:
            return MachineView()
        age_s = int(clock.now() - newest.t)
        return MachineView(
            gpus=tuple(_gpu_view(gpu, self._of(_key(gpu))) for gpu in newest.gpus),
            host=_host_view(newest.host, self._of("host")),
            disk_free_bytes=newest.host.disk_free_bytes,
            age_s=age_s // 10 * 10 if is_due and age_s > OLD_S else 0,
        )


class _History:
    """Holds utilization and memory of one device, a value for each `PIECE_S` seconds of the
    clock.
    """

    def __init__(self) -> None:
        self._pieces = (array("d"), array("d"))
        self._sums = [(0.0, 0), (0.0, 0)]
        self._piece: int | None = None

    def add(self, t: float, *values: float | None) -> None:
        piece = int(t // PIECE_S)
        if piece != self._piece:
            self._begin(piece)
        for index, value in enumerate(values):
            total, count = self._sums[index]
            if value is not None:
                self._sums[index] = (total + value, count + 1)
                self._pieces[index][-1] = (total + value) / (count + 1)

    def columns(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return tuple(self._pieces[0]), tuple(self._pieces[1])

    def _begin(self, piece: int) -> None:
        gap = 1 if self._piece is None else min(MOST_PIECES, max(1, piece - self._piece))
        self._piece = piece
        self._sums = [(0.0, 0), (0.0, 0)]
        for pieces in self._pieces:
            pieces.extend([math.nan] * gap)
            del pieces[:-MOST_PIECES]


def _signature(run_dir: RunDir) -> tuple[int, int] | None:
    try:
        found = run_dir.telemetry.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size


def _key(gpu: GpuReading) -> str:
    return gpu.uuid or str(gpu.index)


def _gpu_view(gpu: GpuReading, history: _History) -> DeviceView:
    utilization, memory = history.columns()
    return DeviceView(
        name=f"gpu {gpu.index}",
        model=gpu.name or "",
        utilization=gpu.utilization_frac,
        memory_used_bytes=gpu.memory_used_bytes,
        memory_total_bytes=gpu.memory_total_bytes,
        power_w=gpu.power_w,
        temperature_c=gpu.temperature_c,
        utilization_history=utilization,
        memory_history=memory,
        lost=gpu.lost or "",
        others=_others(gpu.processes or ()),
    )


def _host_view(host: HostReading, history: _History) -> DeviceView:
    utilization, memory = history.columns()
    used, total = _host_memory(host)
    return DeviceView(
        name="host",
        utilization=host.cpu_frac,
        memory_used_bytes=used,
        memory_total_bytes=total,
        utilization_history=utilization,
        memory_history=memory,
    )


def _host_memory(host: HostReading) -> tuple[int | None, int | None]:
    return host.memory_used_bytes, host.memory_total_bytes


def _others(processes: Sequence[GpuProcess]) -> tuple[str, ...]:
    """Names whoever else computes there, the greediest first."""
    foreign = [process for process in processes if process.stage is None]
    foreign.sort(key=lambda process: -(process.used_bytes or 0))
    return tuple(
        f"{process.name or 'process'} {process.pid}"
        f"{f' of {process.user}' if process.user else ''} {size(process.used_bytes)}"
        for process in foreign[:MOST_OTHERS]
    )


def _frac(used: int | None, total: int | None) -> float | None:
    return None if used is None or not total else used / total
