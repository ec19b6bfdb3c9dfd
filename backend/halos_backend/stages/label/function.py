"""Owns the `function` judge: a Python function of the person's own gives the reward.

It runs in a process of its own (see `reward_program`), which is started anew where it dies.
"""

from __future__ import annotations

import hashlib
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from halos_backend.errors import EngineDiedError, UsageError
from halos_backend.stages.companion import Companion
from halos_backend.stages.label.judge import FLOAT64_ROUNDING, LabelRow, RewardOrReason, Unscored
from halos_backend.stages.label.judge_cache import JudgeCache
from halos_backend.stages.label.reward_program import (
    Answer,
    Begin,
    Call,
    Calls,
    Judged,
    Ready,
    Refused,
)

PROGRAM = "halos_backend.stages.label.reward_program"
WINDOW = 64
"""Is how many calls are under way at most: those of an `async def` function wait side by side."""
MAX_LOST = 3
"""Is how many completions in a row the process may die on before the stage gives up."""
CLOSE_TIMEOUT_S = 5.0


class ProcessDiedError(Exception):
    """Is raised where the function's process has ended; the text says how."""


class FunctionProcess:
    """Is the process of `file.py:name`, and what it says.

    `environment` and `python` are those of the stage where it is not the stage that starts it.
    Raises UsageError where there is no such function.
    """

    def __init__(
        self,
        spec: str,
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        python: str | None = None,
    ) -> None:
        self.identity = _digest(spec, ())
        self.files: tuple[Path, ...] = ()
        self._spec = spec
        self._log = log
        self._options: dict[str, Any] = {"environment": environment, "python": python}
        self._companion: Companion | None = None
        self.start()

    def start(self) -> None:
        """Imports the file. Raises UsageError."""
        path, name = split_spec(self._spec)
        with self._log.open("ab") as log:
            self._companion = Companion(
                *(PROGRAM, path, name),
                answers=Answer,
                directory=path.parent if path.parent.is_dir() else None,
                log=log,
                **self._options,
            )
        try:
            answer = next(self._answers())
        except ProcessDiedError as death:
            text = f"its process {death} while {path} was imported"
            raise UsageError(self.named(text), fix=f"see what python {path} does") from death
        match answer:
            case Ready(files=files):
                self.files = tuple(Path(file) for file in files)
            case Refused(reason=reason, fix=fix):
                self.close()
                raise UsageError(self.named(reason), fix=fix)

    def goes_on(self, log: Path) -> bool:
        """Says whether it can go on in another attempt with that log: it lives, and no file has
        changed.
        """
        self._log = log
        try:
            self._send(Begin(str(log)))
            match next(self._answers()):
                case Ready(is_stale=is_stale):
                    return not is_stale
                case _:
                    return False
        except ProcessDiedError:
            return False

    def judge(self, calls: Sequence[Call]) -> Iterator[Judged]:
        """Yields rewards as they are answered. Raises ProcessDiedError."""
        if self._companion is None:
            self.start()
        self._send(Calls(list(calls)))
        answers = self._answers()
        for _ in calls:
            if isinstance(answer := next(answers), Judged):
                yield answer

    def wake(self) -> None:
        """Does nothing: it holds nothing of ours that could be parked; see LoadedJudge."""

    def park(self) -> None:
        """Does nothing; see LoadedJudge."""

    def close(self) -> None:
        """Ends it, and whatever processes it has."""
        if self._companion is not None:
            self._end()

    def identity_of_files(self) -> str:
        """Returns the digest of all of its files; that of a function with one file is its
        `identity`.
        """
        return _digest(self._spec, self.files[1:])

    def named(self, text: str) -> str:
        """Returns a message that begins with the setting."""
        return f"label.judge.function = {self._spec!r}: {text}"

    def _send(self, order: Begin | Calls) -> None:
        if self._companion is None:
            raise ProcessDiedError("is not there")
        try:
            self._companion.channel.send(order)
        except OSError:
            raise self._end() from None

    def _answers(self) -> Iterator[Ready | Refused | Judged]:
        """Yields answers without an end. Raises ProcessDiedError."""
        if self._companion is not None:
            yield from self._companion.answers()
        raise self._end()

    def _end(self) -> ProcessDiedError:
        """Ends what is left of it; says how it ended."""
        if self._companion is None:
            return ProcessDiedError("is not there")
        companion, self._companion = self._companion, None
        companion.end(CLOSE_TIMEOUT_S)
        companion.channel.close()
        return ProcessDiedError(_how_it_ended(companion.process.returncode))


class CalledFunction:
    """Is a function as a judge: each completion is one call, and rewards come in the rows' order.

    Equal completions are, too: a function may draw lots on purpose.
    """

    engine = ""
    rounding = FLOAT64_ROUNDING

    def __init__(self, process: FunctionProcess) -> None:
        self._process = process
        self._num_lost = 0
        self.identity = process.identity_of_files()

    def score(
        self, rows: Sequence[LabelRow], known: Mapping[int, float]
    ) -> Iterator[tuple[int, RewardOrReason]]:
        """Calls the function for each row; known rewards are taken as they are. See Judge."""
        found: dict[int, RewardOrReason] = dict(known)
        calls = [_call(index, row) for index, row in enumerate(rows) if index not in known]
        arriving = self._rewards({call.number: call for call in calls})
        for index in range(len(rows)):
            while index not in found:
                number, found[number] = next(arriving)
            yield index, found[index]

    def _rewards(self, waiting: dict[int, Call]) -> Iterator[tuple[int, RewardOrReason]]:
        """Yields rewards as they come.

        Where the process dies the calls that wait are made one by one, to tell which of them it
        was. Raises EngineDiedError when it dies on one after another.
        """
        window = WINDOW
        while waiting:
            calls = list(islice(waiting.values(), window))
            try:
                for judged in self._process.judge(calls):
                    del waiting[judged.number]
                    self._num_lost = 0
                    yield judged.number, _reward(judged)
            except ProcessDiedError as death:
                if len(calls) == 1:
                    del waiting[calls[0].number]
                    yield calls[0].number, self._lost(death)
                window = 1

    def _lost(self, death: ProcessDiedError) -> Unscored:
        self._num_lost += 1
        if self._num_lost == MAX_LOST:
            raise EngineDiedError(
                self._process.named(
                    f"its process {death}, on {MAX_LOST} completions in a row; this attempt's"
                    " stdout.log may say why"
                )
            )
        return Unscored(f"judge's process {death}", is_error=True)


def _call(index: int, row: LabelRow) -> Call:
    return Call(index, row.completion_id, list(row.prompt), row.text, row.columns)


def _reward(judged: Judged) -> RewardOrReason:
    if judged.reward is None:
        return Unscored(judged.unscored, judged.is_error)
    return judged.reward


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def open_function(spec: str, log: Path, cache: JudgeCache) -> CalledFunction:
    """Returns the judge of `file.py:name`, whose output goes to the log. Raises UsageError."""
    process = cache.get(
        _digest(spec, ()),
        lambda: FunctionProcess(spec, log),
        fits=lambda process: process.goes_on(log),
    )
    return CalledFunction(process)


def check_function(
    spec: str, environment: Mapping[str, str], *, python: str | None
) -> tuple[Path, ...]:
    """Returns the files that the function consists of. Raises UsageError where it cannot be called.

    `environment` and `python` are those of the stage that is going to call it.
    """
    with tempfile.NamedTemporaryFile(prefix="halos-judge-") as log:
        process = FunctionProcess(spec, Path(log.name), environment=environment, python=python)
        process.close()
        return process.files


def split_spec(spec: str) -> tuple[Path, str]:
    file, _, name = spec.rpartition(":")
    return Path(file).absolute(), name


def _digest(spec: str, beside: Sequence[Path]) -> str:
    """Digests the function's file and name, and the files that it has imported beside it."""
    path, name = split_spec(spec)
    digest = hashlib.sha256(f"{name} ".encode())
    for file in (path, *beside):
        if file != path:
            digest.update(f" {file.relative_to(path.parent)} ".encode())
        with suppress(OSError):
            digest.update(file.read_bytes())
    return f"function {digest.hexdigest()}"
