"""Takes readings in a thread of its own: into the run's record, and into what each stage used.

A driver that hangs holds up this thread only. The supervisor never waits for it, not at its end.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from halos_backend import clock
from halos_backend.store.run_dir import RunDir
from halos_backend.telemetry.devices import StageProcesses, mark_owners
from halos_backend.telemetry.gpu import Gpus
from halos_backend.telemetry.host import Host
from halos_backend.telemetry.log import TelemetryLog
from halos_backend.telemetry.reading import Key, Reading
from halos_backend.telemetry.stage_summary import StageUse

INTERVAL_S = 2.0

TakeReading = Callable[[], Reading]


def reader(run_path: Path, processes: StageProcesses) -> TakeReading:
    """Reads this machine. It keeps open what is slow to open, so ask it from one thread."""
    gpus, host = Gpus(), Host(run_path)

    def take() -> Reading:
        t = clock.now()
        return Reading(t=t, host=host.read(), gpus=mark_owners(gpus.read(), processes))

    return take


class Sampler:
    """Reads every `interval_s` seconds from `start` to `stop`, and at once when a stage begins.

    `devices` are the numbers of the run's GPUs, None for all that CUDA shows; a change holds for
    stages that begin later. Whatever fails is counted in `num_failed`, and tried again next time.
    """

    def __init__(
        self,
        run_dir: RunDir,
        *,
        processes: StageProcesses = dict,
        devices: Sequence[int] | None = None,
        environment: Mapping[str, str] = os.environ,
        interval_s: float = INTERVAL_S,
        take: TakeReading | None = None,
        monotonic: Callable[[], float] = clock.monotonic,
    ) -> None:
        self.devices = devices
        self.latest: Reading | None = None
        self.num_failed = 0
        self._visible = environment.get("CUDA_VISIBLE_DEVICES")
        self._interval_s = interval_s
        self._take = reader(run_dir.path, processes) if take is None else take
        self._monotonic = monotonic
        self._log = TelemetryLog(run_dir)
        self._stages: dict[Key, StageUse] = {}
        self._lock = threading.Lock()
        """Guards the stages' numbers; never held while something is read or written."""
        self._wake = threading.Event()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Takes no further reading. Does not wait for one that is being taken."""
        self._is_stopped = True
        self._wake.set()

    def wake(self) -> None:
        """Takes a reading now, or right after one that is being taken; `latest` will have it."""
        self._wake.set()

    def begin(self, key: Key) -> None:
        """Says that a stage runs from now on."""
        with self._lock:
            self._stages[key] = StageUse(key, devices=self.devices, visible=self._visible)
        self.wake()

    def end(self, key: Key) -> dict[str, float | int]:
        """Returns what the stage used, for its summary (the keys are `StageUse.summary`'s)."""
        with self._lock:
            use = self._stages.pop(key, None)
            return {} if use is None else use.summary(at=self._monotonic())

    def read_once(self) -> None:
        """Takes one reading, lets the stages that run have it, and writes it down. Never raises."""
        try:
            self._read()
        except Exception:  # noqa: BLE001  the edge of a thread that must go on
            self.num_failed += 1

    def _run(self) -> None:
        while True:
            self._wake.clear()
            if self._is_stopped:
                self._log.close()
                return
            self.read_once()
            self._wake.wait(self._interval_s)

    def _read(self) -> None:
        with self._lock:
            running = list(self._stages.values())
        at = self._monotonic()
        reading = self._take()
        self.latest = reading
        with self._lock:
            for use in running:
                use.add(reading, at=at)
        self._log.append(reading)
