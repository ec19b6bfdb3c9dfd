"""Owns the findings of a check (of a machine, of a run's settings and inputs), and how sizes are
written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


class InputsError(UsageError):
    """Is raised where a run cannot be made.

    `problems` are all that were found; `prepared` is what the check of the inputs found besides,
    where it was made.
    """

    def __init__(
        self, problems: Iterable[Finding], prepared: Mapping[str, Any] | None = None
    ) -> None:
        self.problems = tuple(problems)
        self.prepared = prepared or {}
        lines = [complaint(problem) for problem in self.problems]
        if len(lines) > 1:
            lines = [f"{len(lines)} problems", *(f"  {line}" for line in lines)]
        super().__init__("\n".join(lines))


def complaint(finding: Finding) -> str:
    """Returns a warning or problem on one line."""
    fix = f"; {finding.fix}" if finding.fix else ""
    return f"{finding.subject}: {finding.text}{fix}"


def problem_of(subject: str, error: HalosError) -> Finding:
    """Returns what an error says, on one line, as a finding."""
    return Finding("problem", subject, " ".join(error.text.splitlines()), error.fix)


def problems_in(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level == "problem"]


def prepared_findings(prepared: Mapping[str, Any]) -> list[Finding]:
    """Returns what the check of a run's inputs found; a run that an earlier version made has
    nothing of it.
    """
    return msgspec.convert(prepared.get("findings", []), list[Finding])


def refuse_inputs(prepared: Mapping[str, Any]) -> None:
    """Raises InputsError where the check of the inputs found a problem."""
    if problems := problems_in(prepared_findings(prepared)):
        raise InputsError(problems, prepared)


def in_gib(num_bytes: float) -> str:
    """Returns a size in words: `3.2 GiB`; small sizes are in MiB."""
    if num_bytes < GIB:
        return f"{num_bytes / MIB:.0f} MiB"
    return f"{num_bytes / GIB:.1f} GiB"
