"""The edge of a stage's process: every failure is said with its cause and ends in an exit code."""

from __future__ import annotations

import errno
import gc
import importlib
import sys
from pathlib import Path

import pytest
import torch
from halos_backend.errors import (
    ExitCode,
    MissingInputError,
    NonFiniteError,
    OutOfMemoryError,
    StageError,
    UsageError,
)
from halos_backend.events import AttemptFailed, Cause
from halos_backend.stages import runtime
from halos_backend.stages.runtime import Attempt, StageResult, cause_of, importing
from halos_backend.store.job import Job, LabelInputs, write_job
from halos_backend.store.reader import attempt_journal
from halos_backend.store.run_dir import AttemptDir

from tests.support.journals import settings

FAILURES: list[tuple[BaseException, Cause, int]] = [
    (NonFiniteError("the loss is NaN"), "non_finite", ExitCode.FAILED),
    (OutOfMemoryError("lower batch_size"), "out_of_memory", ExitCode.FAILED),
    (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory", ExitCode.FAILED),
    (MemoryError(), "out_of_memory", ExitCode.FAILED),
    (MissingInputError("no completions"), "missing_input", ExitCode.FAILED),
    (FileNotFoundError(errno.ENOENT, "gone", "x"), "missing_input", ExitCode.FAILED),
    (OSError(errno.ENOSPC, "full", "x"), "no_space", ExitCode.FAILED),
    (OSError(errno.EFBIG, "too large", "x"), "no_space", ExitCode.FAILED),
    (StageError("nothing to train on"), "refused", ExitCode.FAILED),
    (UsageError("no such model"), "refused", ExitCode.USAGE),
    (OSError(errno.EIO, "the disk is ill"), "crashed", ExitCode.FAILED),
    (RuntimeError("CUDA error: unspecified launch failure"), "crashed", ExitCode.FAILED),
    (KeyboardInterrupt(), "crashed", ExitCode.FAILED),
]


@pytest.mark.parametrize(("error", "cause", "code"), FAILURES, ids=lambda value: str(value)[:24])
def test_a_failing_stage_says_why_and_of_what_kind(
    error: BaseException, cause: Cause, code: int, tmp_path: Path
) -> None:
    directory = AttemptDir(tmp_path)
    job = Job(
        run="a-run",
        round=1,
        stage="label",
        attempt=1,
        seed=0,
        num_threads=1,
        num_processes=1,
        settings=settings().model_dump(mode="json"),
        inputs=LabelInputs(completions="nowhere"),
    )
    write_job(directory.job, job)

    def execute(attempt: Attempt) -> StageResult:
        raise error

    assert runtime._execute(execute, runtime.open_attempt(tmp_path)) == code

    (said,) = attempt_journal(directory.events).read()
    assert isinstance(said, AttemptFailed)
    assert said.cause == cause == cause_of(error)
    assert said.reason


def test_a_librarys_modules_are_hidden_from_the_collector_once_and_no_later_garbage_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    try:
        with importing("colorsys"):
            assert not gc.isenabled()
            importlib.import_module("colorsys")
        assert gc.isenabled()
        frozen = gc.get_freeze_count()
        assert frozen > 0
        garbage: list[object] = []
        garbage.append(garbage)
        with importing("colorsys"):
            pass
        assert gc.get_freeze_count() <= frozen
    finally:
        gc.unfreeze()


def test_what_does_not_come_to_import_a_library_hides_nothing_from_the_collector() -> None:
    frozen = gc.get_freeze_count()
    with importing("no_such_library"):
        pass
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen
