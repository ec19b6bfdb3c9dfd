"""Decides what `launch.warm_workers = "auto"` comes to, before each round, and records it.

Before a run's first round by the sizes of its models, then by the memory that its stages took. Once
these have shown that there is no room, the programs end with their attempts until the run's owner
changes settings or resumes it, as where a stage found no memory.

What is free does not say what others are about to take: a hundred runs that start at once would
each find room for all of their programs. Each writes down what it will take until its first round
has shown it, in a file beside those of the GPUs, see `gpus.locks`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path

import msgspec

from halos_backend import atomic, clock
from halos_backend.config.schema import RunSettings
from halos_backend.config.warmth import (
    ModelSizes,
    Program,
    Warmth,
    bytes_apart,
    bytes_together,
    fits_together,
    foreseen_programs,
    gpu_shortage,
)
from halos_backend.errors import HalosError
from halos_backend.events import STAGES, ProcessIdentity, RunEvent, Stage, WorkersChosen
from halos_backend.findings import Prepared
from halos_backend.interpreters.device import device_names
from halos_backend.records import BAD_JSON
from halos_backend.store.identity import is_alive, own_identity
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState
from halos_backend.supervisor.gpus.locks import runtime_dir
from halos_backend.telemetry.devices import select_gpus
from halos_backend.telemetry.host import Host
from halos_backend.telemetry.reading import Reading


class Promise(msgspec.Struct, frozen=True):
    """Says what the run of this supervisor will take."""

    process: ProcessIdentity
    num_bytes: int


class Promises:
    """Holds the promises of all runs of the user, and the one of `run`. Where their folder cannot
    be used there are none.
    """

    def __init__(self, run: Path) -> None:
        self._run = run

    @contextlib.contextmanager
    def alone(self) -> Iterator[int]:
        """Yields the bytes promised to others, none of whom reads and promises meanwhile."""
        try:
            lock = (self._folder() / "lock").open("w")
        except (HalosError, OSError):
            yield 0
            return
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self._of_others()

    def make(self, num_bytes: int) -> None:
        promise = Promise(own_identity(), num_bytes)
        with contextlib.suppress(HalosError, OSError):
            atomic.write_bytes(self._own(), msgspec.json.encode(promise) + b"\n", durable=False)

    def keep(self) -> None:
        """Ends the promise: the memory has been taken, or will not be."""
        with contextlib.suppress(HalosError, OSError):
            self._own().unlink(missing_ok=True)

    def _of_others(self) -> int:
        """Adds up the promises of others; those of supervisors that are gone do not count, and are
        deleted.
        """
        total = 0
        for path in self._folder().glob("*.json"):
            promise = _read(path)
            if promise is None or not is_alive(promise.process):
                path.unlink(missing_ok=True)
            elif path != self._own():
                total += promise.num_bytes
        return total

    def _folder(self) -> Path:
        folder = runtime_dir() / "memory"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _own(self) -> Path:
        name = hashlib.sha256(str(self._run.resolve()).encode()).hexdigest()[:32]
        return self._folder() / f"{name}.json"


def _read(path: Path) -> Promise | None:
    with contextlib.suppress(OSError, *BAD_JSON):
        return msgspec.json.decode(path.read_bytes(), type=Promise)
    return None


class WarmChoice:
    """Decides for one run. `parked_pids` are those of the programs that wait for their next
    attempt.
    """

    def __init__(
        self,
        run_dir: RunDir,
        record: Callable[[RunEvent], None],
        *,
        parked_pids: Callable[[], Mapping[Stage, set[int]]],
        latest: Callable[[], Reading | None],
        available: Callable[[], int | None] | None = None,
    ) -> None:
        self._run_dir = run_dir
        self._record = record
        self._parked_pids = parked_pids
        self._latest = latest
        self._available = available or partial(_available_bytes, Host(run_dir.path))
        self._promises = Promises(run_dir.path)
        self._round = 0

    def make(self, round: int, state: RunState, settings: RunSettings) -> bool:
        """Decides, once a round; says whether programs are to end now that were to stay before."""
        if round == self._round:
            return False
        if self._round:
            self._promises.keep()  # a round has shown what is taken
        self._round = round
        before = state.workers
        has_shown = before is not None and before.is_measured and not before.is_warm
        if settings.launch.warm_workers != "auto" or state.is_crowded or has_shown:
            return False
        found, is_measured = self._choose(state, settings)
        is_news = before is None or before.is_warm != found.is_warm
        if is_news or (is_measured and not found.is_warm):
            chosen = WorkersChosen(
                t=clock.now(), is_warm=found.is_warm, reason=found.reason, is_measured=is_measured
            )
            self._record(chosen)
        return before is not None and before.is_warm and not found.is_warm

    def release(self) -> None:
        """Gives the promise back: the run stops and takes no more."""
        self._promises.keep()

    def _choose(self, state: RunState, settings: RunSettings) -> tuple[Warmth, bool]:
        """Decides, and says whether it is known from what the stages took."""
        available = self._available()
        if available is None:
            return Warmth(False, "what memory there is cannot be read here"), False
        sizes, gpu_bytes = self._sizes(), self._gpu_bytes(settings)
        sampler = "transformers" if sizes is None else sizes.sampler
        if shortage := gpu_shortage(settings, sampler=sampler, gpu_bytes=gpu_bytes):
            return Warmth(False, shortage), False
        foreseen = None if sizes is None else foreseen_programs(settings, sizes)
        kept = {stage: _resident_bytes(pids) for stage, pids in self._parked_pids().items()}
        room = available + sum(kept.values())
        if (measured := _measured(state, kept, foreseen)) is not None:
            overlap = settings.loop.overlap
            return fits_together(measured, room, has_overlap=overlap, is_measured=True), True
        if foreseen is None:
            return Warmth(False, "how much memory they take is known after the first round"), False
        return self._by_sizes(foreseen, room, has_overlap=settings.loop.overlap), False

    def _by_sizes(
        self, foreseen: Mapping[Stage, Program], room: int, *, has_overlap: bool
    ) -> Warmth:
        """Decides by the models' sizes, and promises to this run what that takes."""
        with self._promises.alone() as promised:
            left = max(0, room - promised)
            found = fits_together(foreseen, left, has_overlap=has_overlap, is_measured=False)
            if found.is_warm:
                self._promises.make(bytes_together(foreseen, has_overlap=has_overlap))
            else:
                self._promises.make(bytes_apart(foreseen))
        return found

    def _sizes(self) -> ModelSizes | None:
        with contextlib.suppress(OSError, *BAD_JSON):
            return ModelSizes.of(
                msgspec.json.decode(self._run_dir.prepared.read_bytes(), type=Prepared)
            )
        return None

    def _gpu_bytes(self, settings: RunSettings) -> int | None:
        """Returns the memory of the smallest GPU that the run takes; None where it takes none."""
        reading = self._latest()
        if reading is None or settings.launch.device == "cpu":
            return None
        names = device_names(settings.launch)
        visible = ",".join(names) if names else os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = select_gpus(reading.gpus, None, visible=visible)
        return min((gpu.memory_total_bytes or 0 for gpu in gpus), default=None)


def _measured(
    state: RunState, kept: Mapping[Stage, int], foreseen: Mapping[Stage, Program] | None
) -> dict[Stage, Program] | None:
    """Measures by the newest round in which all stages told their peak; None where there
    is none.
    """
    for round in reversed(state.rounds):
        own = {
            name: stage.summary.host_own_peak_memory_bytes for name, stage in round.stages.items()
        }
        peaks = {name: peak for name, peak in own.items() if peak is not None}
        if len(peaks) == len(STAGES):
            break
    else:
        return None
    keeps = {name: program.kept_bytes for name, program in (foreseen or {}).items()} | dict(kept)
    return {name: Program(peak, min(peak, keeps.get(name, peak))) for name, peak in peaks.items()}


def _available_bytes(host: Host) -> int | None:
    return host.read().memory_available_bytes


def _resident_bytes(pids: Collection[int]) -> int:
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            total += int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    return total * os.sysconf("SC_PAGE_SIZE")
