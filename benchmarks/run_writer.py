"""Writes a run at work while the app looks on, as its supervisor and stages would."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from halos_backend.store.run_dir import RunDir

from benchmarks.made_events import Shape
from benchmarks.made_runs import LiveRun, make_run


class RunWriter:
    """A run at work, as its supervisor and its train stage would write it, in a thread.

    Its round has `num_steps` steps; `batch` of them are written at once.
    """

    def __init__(
        self, root: Path, *, steps_per_s: float, num_steps: int = 1000, batch: int = 1
    ) -> None:
        shape = Shape(num_rounds=3, num_planned=20, num_groups=64, num_readings=300)
        run = make_run(root / "live", shape, is_complete=False, started_t=time.time() - 60)
        self.live = LiveRun(run, shape)
        self.live.start_training()
        self._pause_s = batch / steps_per_s
        self._batch = batch
        self._num_steps = num_steps
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> RunDir:
        self._thread.start()
        return self.live.dir

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _write(self) -> None:
        begun = time.monotonic()
        number = 0
        while not self._is_over.wait(max(0.0, begun + number * self._pause_s - time.monotonic())):
            number += 1
            self.live.train(self._batch, of=self._num_steps)
            if number % max(1, round(2 / self._pause_s)) == 0:
                self.live.beat()
                self.live.read_machine()


def play_rounds(live: LiveRun, count: int, *, num_steps: int) -> None:
    """Ten rounds a second, so that the app sees most of them while they run."""
    for _ in range(count):
        live.beat()
        live.start_training()
        live.train(num_steps, of=num_steps)
        time.sleep(0.1)
        live.finish_round()
        live.read_machine()
