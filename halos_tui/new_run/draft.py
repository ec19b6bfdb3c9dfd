"""Owns a new run that is being set up: the doctor's findings, its plan, and making it.

Nothing here is drawn. What takes seconds is called in threads only, and tells how far it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from halos_backend.client import start
from halos_backend.config.schema import RunSettings
from halos_backend.doctor import examine_settings
from halos_backend.findings import Finding, with_level
from halos_backend.store.run_dir import RunDir

from halos_tui.new_run.checking import Report, prompts_reporter
from halos_tui.new_run.create import default_name, make_run, start_made
from halos_tui.new_run.plan import find_plan, plan_lines
from halos_tui.new_run.starts import Start
from halos_tui.settings.form import Checked

Lines = tuple[tuple[str, str], ...]
"""These are texts, each with the name of its style."""
STYLES = {"problem": "bad", "warning": "warning", "ok": "muted"}
"""The doctor's levels have these styles, the worst first."""


@dataclass(frozen=True)
class Draft:
    """Holds settings that are right, and what came before them. Without a name the run gets one."""

    start: Start
    settings: RunSettings
    assignments: tuple[str, ...]
    root: Path
    name: str

    @property
    def config_text(self) -> str:
        return self.start.config_text(self.settings, self.assignments)


def findings_of(found: Checked, root: Path) -> Lines:
    """Returns what the doctor says of settings that are right, without a look at the inputs."""
    if found.settings is None:
        return ()
    settings = RunSettings.model_validate(found.settings)
    findings = examine_settings(settings, prepared=None, runs_root=root)
    levels = list(STYLES)
    return tuple(
        (with_level(finding), STYLES[finding.level])
        for finding in sorted(findings, key=lambda finding: levels.index(finding.level))
    )


def plan_of(draft: Draft, report: Report) -> Lines:
    """Says what the run would do, after a check of its inputs. Raises HalosError for wrong ones."""
    warnings: list[Finding] = []
    report("checking the inputs", 0, 0)
    plan = find_plan(
        draft.settings,
        draft.config_text,
        root=draft.root,
        name=draft.name or default_name(draft.settings, draft.root),
        report=report,
        warn=warnings.append,
    )
    told = [(with_level(finding), "warning") for finding in warnings]
    return (*told, *((line, "") for line in plan_lines(plan)))


def make_and_start(draft: Draft, report: Report) -> RunDir:
    """Returns the run, at work. Raises HalosError where that fails; nothing is left behind then."""

    def create() -> RunDir:
        return start.create_run(
            draft.root,
            draft.name or default_name(draft.settings, draft.root),
            config_text=draft.config_text,
            settings=draft.settings.model_dump(mode="json"),
            report=prompts_reporter(report),
        )

    report("checking the inputs", 0, 0)
    made = make_run(draft.settings, create, root=draft.root, warn=lambda _finding: None)
    start_made(made)
    return made


def check_name(text: str) -> str:
    """Says what is wrong with a run's name; "" where nothing is."""
    return "a name has no / and does not begin with ." if "/" in text or text[:1] == "." else ""
