"""Every error a person can meet, and the exit codes of every program of the project.

    HalosError
    ├── UsageError            exit 2: a wrong setting, file, argument: the person's to mend
    │   ├── SettingsError     several problems of one run file, each with its path
    │   └── PromptsError      the prompts source
    ├── RunNotFoundError      exit 4
    ├── RunInUseError         exit 5
    ├── CorruptFileError      exit 1: names file and line
    └── StageError            exit 1: a stage cannot go on, and says why
        ├── NonFiniteError    loss, gradient or weights are not finite
        ├── OutOfMemoryError  a GPU's memory is too small for the settings
        ├── MissingInputError a file that an earlier stage left, or a model, is gone
        ├── EngineDiedError   an engine of vLLM ended by itself, or lost its way
        ├── OtherPolicyError  the round was sampled by another policy than the one to be trained
        └── BudgetSpentError  the judge's next answer may cost more than its budget has left

A text says what is wrong and where; `fix` says what to do now.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Holds the exit codes of the command line and of stages, one meaning each."""

    COMPLETED = 0
    FAILED = 1
    USAGE = 2
    ABORTED = 3
    NO_SUCH_RUN = 4
    RUN_IN_USE = 5
    UNFINISHED = 6


class HalosError(Exception):
    """Is the root of the project's own errors.

    `text` says what is wrong and where, `fix` what to do now; it is empty where the text says it,
    or nothing helps. `str(error)` is meant for a person: the text, and behind `; ` the fix.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(self, text: str = "", *, fix: str = "") -> None:
        super().__init__(f"{text}; {fix}" if fix else text)
        self.text = text
        self.fix = fix


class UsageError(HalosError):
    """Is raised where a person asked for something that cannot be; nothing was changed."""

    exit_code = ExitCode.USAGE


class SettingsError(UsageError):
    """A run file or override is wrong. `problems` are (path, reason) pairs, all found at once."""

    def __init__(self, source: str, problems: Sequence[tuple[str, str]]) -> None:
        self.source = source
        self.problems = tuple(problems)
        lines = [f"  {path}: {reason}" if path else f"  {reason}" for path, reason in self.problems]
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        super().__init__("\n".join([f"{source}: {count} {noun}", *lines]))


class PromptsError(UsageError):
    """The prompts source is missing, empty, or has rows that cannot be read."""


class RunNotFoundError(HalosError):
    """Is raised where no run of that name is under the runs directory."""

    exit_code = ExitCode.NO_SUCH_RUN


class RunInUseError(HalosError):
    """Another live supervisor holds the run."""

    exit_code = ExitCode.RUN_IN_USE


class CorruptFileError(HalosError):
    """A file of the run directory cannot be read; the text names file and line."""


class StageError(HalosError):
    """A stage cannot go on."""


class NonFiniteError(StageError):
    """A loss, gradient or weight is NaN or infinite; training on would ruin the policy."""


class OutOfMemoryError(StageError):
    """A GPU's memory is too small; the text says which setting to lower."""


class MissingInputError(StageError):
    """Says that what the stage was to read is not there."""


class EngineDiedError(StageError):
    """An engine ended by itself, or does not do what it should; another may do better."""


class OtherPolicyError(StageError):
    """The round was sampled by another policy than the one to be trained."""


class BudgetSpentError(StageError):
    """Says that the judge's budget has too little left for its next answer; the run pauses."""
