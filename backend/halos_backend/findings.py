"""Owns what a check of a machine, of settings or of inputs finds, and how sizes are written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from halos_backend.errors import HalosError, UsageError

Level = Literal["ok", "warning", "problem"]

GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True)
class Finding:
    """Holds one finding: `text` says what is; `fix` says what to do now, and is empty where all is
    well.
    """

    level: Level
    subject: str
    text: str
    fix: str = ""


class InputFile(msgspec.Struct, frozen=True):
    """Describes a file as it was when it was read.

    `what` is the setting that names it, or `prompts.jsonl`. `path` is absolute, or relative to the
    run directory for a file in it.
    """

    what: str
    path: str
    bytes: int
    mtime_ns: int
    inode: int
    sha256: str


class Prepared(msgspec.Struct, kw_only=True):
    """Is `prepared.json`: what the check of a run's inputs measured and found.

    It is filled in check by check. What could not be measured is None, and left out of the file; a
    run that an earlier version made lacks what that did not look for. A judge of 0 parameters is a
    function.
    """

    judge_parameters: int | None = None
    judge_engine: dict[str, object] | None = None
    sampler: str | None = None
    context_length: int | None = None
    num_parameters: int | None = None
    checkpoint_bytes: int | None = None
    policy_dtype: str | None = None
    num_prompts: int | None = None
    num_too_long: int | None = None
    num_held_out: int | None = None
    prompts_sha256: str | None = None
    policy_sha256: str | None = None
    inputs: list[InputFile] | None = None
    findings: list[Finding] = []

    def as_json(self) -> dict[str, Any]:
        """Returns what is written; `judge_engine` is null where the judge is a function."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return {
            name: value
            for name, value in found.items()
            if value is not None or name == "judge_engine"
        }


class RightInputs(msgspec.Struct, frozen=True, kw_only=True):
    """Holds what is known of inputs once a run can be made of them; see `Prepared`."""

    num_parameters: int
    checkpoint_bytes: int
    num_prompts: int
    num_too_long: int
    num_held_out: int
    prompts_sha256: str
    policy_sha256: str


class InputsError(UsageError):
    """Is raised where a run cannot be made.

    `problems` are all that were found; `prepared` is what the check of the inputs found besides,
    where it was made.
    """

    def __init__(self, problems: Iterable[Finding], prepared: Prepared | None = None) -> None:
        self.problems = tuple(problems)
        self.prepared = prepared or Prepared()
        lines = [complaint(problem) for problem in self.problems]
        if len(lines) > 1:
            lines = [f"{len(lines)} problems", *(f"  {line}" for line in lines)]
        super().__init__("\n".join(lines))


def complaint(finding: Finding) -> str:
    """Returns a warning or problem on one line."""
    fix = f"; {finding.fix}" if finding.fix else ""
    return f"{finding.subject}: {finding.text}{fix}"


def with_level(finding: Finding) -> str:
    """Returns a finding on one line, its level first."""
    return f"{finding.level}: {complaint(finding)}"


def problem_of(subject: str, error: HalosError) -> Finding:
    """Returns what an error says, on one line, as a finding."""
    return Finding("problem", subject, " ".join(error.text.splitlines()), error.fix)


def problems_in(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level == "problem"]


def refuse_inputs(prepared: Prepared) -> RightInputs:
    """Returns what a run is made with. Raises InputsError where the check of the inputs found a
    problem.
    """
    if problems := problems_in(prepared.findings):
        raise InputsError(problems, prepared)
    return msgspec.convert(prepared, RightInputs, from_attributes=True)


def in_gib(num_bytes: float) -> str:
    """Returns a size in words: `3.2 GiB`; small sizes are in MiB."""
    if num_bytes < GIB:
        return f"{num_bytes / MIB:.0f} MiB"
    return f"{num_bytes / GIB:.1f} GiB"
