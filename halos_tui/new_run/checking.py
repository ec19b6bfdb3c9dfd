"""Owns the one list of checks of a new run: its settings, its inputs, and whether they fit here.

`run` and `fork` make them on the run that they make; `--dry-run`, `doctor` and the app in a place
that is gone afterwards.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from halos_backend.client import start
from halos_backend.config.schema import RunSettings
from halos_backend.doctor import examine_settings
from halos_backend.findings import Finding, InputsError, Prepared, problems_in
from halos_backend.store.run_dir import RunDir

Report = Callable[[str, int, int], None]
"""It is called with what is being done, and how much of it is: (phase, done, total)."""
Tell = Callable[[Finding], object]
"""It is called with each warning."""


@dataclass(frozen=True)
class Examined:
    """Holds all findings, and what the check of the inputs measured, as far as it could."""

    findings: list[Finding]
    prepared: Prepared


def examine(settings: RunSettings, config_text: str, *, root: Path, report: Report) -> Examined:
    """Checks settings and inputs for real. Raises HalosError where the check itself fails."""
    with tempfile.TemporaryDirectory(prefix="halos-check-") as place:
        run_dir = RunDir(Path(place) / "run")
        run_dir.path.mkdir(mode=0o700)
        resolved = settings.model_dump(mode="json")
        prepared = start.prepare_inputs(run_dir, config_text, resolved, prompts_reporter(report))
    return Examined(all_findings(settings, prepared, root), prepared)


def all_findings(settings: RunSettings, prepared: Prepared, root: Path) -> list[Finding]:
    """Returns what is known once the inputs were looked at, each finding once."""
    about_settings = examine_settings(settings, prepared=prepared, runs_root=root)
    return list(dict.fromkeys([*about_settings, *prepared.findings]))


def refuse_problems(findings: list[Finding], tell: Tell) -> None:
    """Tells the warnings. Raises InputsError with all problems."""
    for finding in findings:
        if finding.level == "warning":
            tell(finding)
    if problems := problems_in(findings):
        raise InputsError(problems)


def prompts_reporter(report: Report) -> Callable[[int, int], None]:
    """Returns what the backend calls while it prepares the prompts."""
    return lambda done, total: report("preparing prompts", done, total)
