"""Owns what every stage program shares: an attempt directory in, events and `DONE` out, one exit.

A stage module calls `run_stage(execute)`. `execute` gets an `Attempt`, writes its outputs into the
attempt's directory, and returns a `StageResult`. Under torchrun every rank runs `execute`; only
rank 0 writes events and `DONE`.

The module imports no ML library by itself: threads are set in the environment before the stage's
own imports, which are its `libraries`.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import msgspec
from msgspec.structs import replace

from halos_backend import clock
from halos_backend.config.schema import RunSettings
from halos_backend.errors import (
    BudgetSpentError,
    EngineDiedError,
    ExitCode,
    HalosError,
    MissingInputError,
    NonFiniteError,
    OtherPolicyError,
    OutOfMemoryError,
    StageError,
)
from halos_backend.events import (
    AttemptEvent,
    AttemptFailed,
    Cause,
    MetricsLogged,
    PhaseChanged,
    Progressed,
    Warned,
    split_finite,
)
from halos_backend.events.summaries import StageSummary
from halos_backend.stages.serving import peak_bytes, serve
from halos_backend.store.job import Job, read_job
from halos_backend.store.manifest import Seals, write_done
from halos_backend.store.reader import attempt_journal
from halos_backend.store.run_dir import AttemptDir, RunDir, run_containing
from halos_backend.store.writer import EventWriter

PROGRESS_INTERVAL_S = 0.1
LAST_WORD_TIMEOUT_S = 5.0
"""Is how long rank 0 has to write down why: the launcher ends all ranks once one has failed."""
LAST_WORD_POLL_S = 0.05


@dataclass(frozen=True)
class StageResult:
    """Is what a stage returns: `outputs` are files or directories that count; `summary` goes into
    StageFinished. Only the main rank has either.
    """

    outputs: tuple[Path, ...] = ()
    summary: StageSummary = field(default_factory=StageSummary)


@dataclass
class Attempt:
    """Is one execution of a stage, as the stage sees it.

    `stays` says that its process executes the next round's attempt too: models may be kept. `seals`
    may be begun for an output as soon as it is whole.
    """

    directory: AttemptDir
    job: Job
    settings: RunSettings
    rank: int
    stays: bool = False
    seals: Seals = field(default_factory=Seals, repr=False)
    _writer: EventWriter | None = field(default=None, repr=False)
    _last_progress: float = field(default=float("-inf"), repr=False)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def earlier_attempts(self) -> list[AttemptDir]:
        return [AttemptDir(Path(path)) for path in self.job.earlier_attempts]

    def phase(self, phase: str) -> None:
        """Says what the stage does now."""
        self._emit(PhaseChanged(t=clock.now(), phase=phase, **self._about()))

    def progress(self, done: int, total: int, unit: str) -> None:
        """Says how far the stage is; at most 10 a second are written, the last one always."""
        if done < total and clock.monotonic() - self._last_progress < PROGRESS_INTERVAL_S:
            return
        self._last_progress = clock.monotonic()
        self._emit(Progressed(t=clock.now(), done=done, total=total, unit=unit, **self._about()))

    def metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Logs one optimizer step's metrics; those that are not finite are named, not written."""
        finite, non_finite = split_finite(metrics)
        self._emit(
            MetricsLogged(
                t=clock.now(), step=step, metrics=finite, non_finite=non_finite, **self._about()
            )
        )

    def warn(self, text: str) -> None:
        """Says something a person should know that does not stop the stage."""
        self._emit(Warned(t=clock.now(), text=text, **self._about()))

    def fail(self, reason: str, cause: Cause) -> None:
        """Says the stage's last word; `run_stage` calls it."""
        self._emit(AttemptFailed(t=clock.now(), reason=reason, cause=cause, **self._about()))

    def close(self) -> None:
        """Ends the journal: nothing more is said."""
        if self._writer is not None:
            self._writer.close()

    def _about(self) -> dict[str, Any]:
        return {"round": self.job.round, "stage": self.job.stage, "attempt": self.job.attempt}

    def _emit(self, event: AttemptEvent) -> None:
        if self._writer is not None:
            self._writer.append(event)


def open_attempt(path: Path, *, stays: bool = False) -> Attempt:
    """Returns the attempt at `path`, for the rank that the environment names."""
    directory = AttemptDir(path)
    job = read_job(directory.job)
    rank = int(os.environ.get("RANK", "0"))
    return Attempt(
        directory=directory,
        job=job,
        settings=RunSettings.model_validate(job.settings),
        rank=rank,
        stays=stays,
        _writer=EventWriter(directory.events) if rank == 0 else None,
    )


def set_threads(num_threads: int) -> None:
    """Fixes the thread pools of torch and its libraries; call it before importing them."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(num_threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@contextlib.contextmanager
def importing(library: str = "torch") -> Iterator[None]:
    """Hides the modules that come with `library` from the garbage collector, which would go
    through thousands of them again and again for nothing. That is a fifth of the time that torch
    takes, and a seventh of the time in which a stage loads vLLM and an engine.
    """
    is_first = library not in sys.modules
    gc.disable()
    try:
        yield
    finally:
        if is_first and library in sys.modules:  # later on there is garbage among what is alive
            gc.freeze()
        gc.enable()


def run_stage(
    execute: Callable[[Attempt], StageResult],
    *,
    libraries: Callable[[RunSettings], None] = lambda _: None,
    park: Callable[[], None] = lambda: None,
    close: Callable[[], None] = lambda: None,
) -> NoReturn:
    """Is the main function of every stage program.

    It serves `python -m ... --attempt-dir DIR`, or `--worker DIR` for one that stays (see
    `serving`). `libraries` imports what the stage needs with these settings, `park` gives GPU
    memory back between attempts, `close` ends what has processes of its own.
    """
    parser = argparse.ArgumentParser()
    work = parser.add_mutually_exclusive_group(required=True)
    work.add_argument("--attempt-dir", type=Path)
    work.add_argument("--worker", type=Path)
    parser.add_argument("--num-threads", type=int, default=1)
    given = parser.parse_args()

    def load_and_execute(attempt: Attempt) -> StageResult:
        with importing():
            libraries(attempt.settings)
        return execute(attempt)

    def preload() -> None:
        set_threads(given.num_threads)
        with importing():
            libraries(_first_settings(given.worker))

    if given.worker is not None:
        serve(
            given.worker,
            partial(_execute_at, load_and_execute, stays=True),
            park,
            close,
            preload=preload,
        )
    leave(_execute_at(load_and_execute, AttemptDir(given.attempt_dir), stays=False))


def leave(code: int) -> NoReturn:
    """Ends the process at once: interpreter tear-down with torch loaded costs 1 to 1.6 s."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _first_settings(worker: Path) -> RunSettings:
    """Returns the settings that the run was created with: a round's are known once there is an
    attempt.
    """
    resolved = RunDir(run_containing(worker)).resolved_config
    return RunSettings.model_validate_json(resolved.read_bytes())


def _execute_at(
    execute: Callable[[Attempt], StageResult], directory: AttemptDir, *, stays: bool
) -> ExitCode:
    attempt = open_attempt(directory.path, stays=stays)
    set_threads(attempt.job.num_threads)
    exit_code = _execute(execute, attempt)
    if exit_code != ExitCode.COMPLETED and not attempt.is_main:
        _await_last_word(attempt)
    attempt.close()
    return exit_code


def _execute(execute: Callable[[Attempt], StageResult], attempt: Attempt) -> ExitCode:
    """Runs the stage; every failure ends in an AttemptFailed with its reason and an exit code."""
    try:
        result = execute(attempt)
        if attempt.is_main:
            attempt.phase("verifying outputs")
            peak = peak_bytes() * attempt.job.num_processes
            summary = replace(result.summary, host_own_peak_memory_bytes=peak).as_json()
            write_done(attempt.directory.path, result.outputs, summary, seals=attempt.seals)
    except HalosError as error:
        _say_why(attempt, str(error), cause_of(error))
        return error.exit_code
    except OSError as error:
        where = error.filename or attempt.directory.path
        again = f"halos-tui resume {attempt.job.run}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"no space left on the disk of {where}; free some, then: {again}"
        elif error.errno == errno.EFBIG:
            reason = f"{where} is too large for its disk or for ulimit -f; once it may be: {again}"
        else:
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}"
        _say_why(attempt, reason, cause_of(error))
        return ExitCode.FAILED
    except BaseException as error:  # noqa: BLE001  the edge of the process
        traceback.print_exc()
        _say_why(attempt, f"{type(error).__name__}: {error}", cause_of(error))
        return ExitCode.FAILED
    return ExitCode.COMPLETED


def cause_of(error: BaseException) -> Cause:
    """Names the kind of failure that an exception of a stage is."""
    match error:
        case NonFiniteError():
            return "non_finite"
        case OutOfMemoryError() | MemoryError():
            return "out_of_memory"
        case MissingInputError() | FileNotFoundError():
            return "missing_input"
        case OtherPolicyError():
            return "other_policy"
        case BudgetSpentError():
            return "over_budget"
        case EngineDiedError():
            return "crashed"
        case HalosError():
            return "refused"
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EFBIG):
            return "no_space"
        case _ if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
            return "out_of_memory"
        case _:
            return "crashed"


def _say_why(attempt: Attempt, reason: str, cause: Cause) -> None:
    print(reason, file=sys.stderr)  # noqa: T201  standard error is the attempt's log
    with contextlib.suppress(OSError):
        attempt.fail(reason, cause)


def _await_last_word(attempt: Attempt) -> None:
    """Gives rank 0, which most often fails of the same cause, the time to say so."""
    journal = attempt_journal(attempt.directory.events)
    deadline = clock.monotonic() + LAST_WORD_TIMEOUT_S
    with contextlib.suppress(HalosError, OSError):
        while clock.monotonic() < deadline:
            if any(isinstance(event, AttemptFailed) for event in journal.read()):
                return
            time.sleep(LAST_WORD_POLL_S)


def read_json(path: Path) -> Any:
    """Reads a small JSON file of ours. Raises StageError naming it."""
    try:
        return msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise StageError(f"{path}: {error}") from error
