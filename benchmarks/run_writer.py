"""Writes a run at work while the app is open on it, as its supervisor and train stage would.

`python run_writer.py RUN_DIR STEPS_PER_S NUM_STEPS BATCH` trains one round until it is ended: a
process of its own, so that it takes nothing of the time of who measures.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from halos_backend.store.run_dir import RunDir

from benchmarks.made_events import Shape
from benchmarks.made_runs import LiveRun, make_run

SHAPE = Shape(num_rounds=3, num_planned=20, num_groups=64, num_readings=300)
LOOK_S = 2.0


class RunWriter:
    """Entered, it gives a run that trains. Its round has `num_steps` steps.

    `batch` of them are written at once.
    """

    def __init__(
        self, root: Path, *, steps_per_s: float, num_steps: int = 1000, batch: int = 1
    ) -> None:
        self._path = root / "live"
        self._arguments = [str(steps_per_s), str(num_steps), str(batch)]

    def __enter__(self) -> RunDir:
        run = make_run(self._path, SHAPE, is_complete=False, started_t=time.time() - 60)
        command = [sys.executable, __file__, str(self._path), *self._arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        while not run.lock.exists():
            time.sleep(0.01)
        return run

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def train_for_ever(live: LiveRun, *, steps_per_s: float, num_steps: int, batch: int) -> None:
    live.start_training()
    pause_s = batch / steps_per_s
    begun, number = time.monotonic(), 0
    while True:
        time.sleep(max(0.0, begun + number * pause_s - time.monotonic()))
        number += 1
        live.train(batch, of=num_steps)
        if number % max(1, round(LOOK_S / pause_s)) == 0:
            live.beat()
            live.read_machine()


def play_rounds(live: LiveRun, count: int, *, num_steps: int) -> None:
    """Plays ten rounds a second, so that the app sees most of them while they run."""
    for _ in range(count):
        live.beat()
        live.start_training()
        live.train(num_steps, of=num_steps)
        time.sleep(0.1)
        live.finish_round()
        live.read_machine()


def main() -> None:
    path, steps_per_s, num_steps, batch = sys.argv[1:]
    live = LiveRun(RunDir(Path(path)), SHAPE)
    train_for_ever(live, steps_per_s=float(steps_per_s), num_steps=int(num_steps), batch=int(batch))


if __name__ == "__main__":
    main()
