"""`doctor`: what this machine has, and what a run file would need."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from halos_backend.config.load import load_settings, resolve
from halos_backend.doctor import Finding, examine_machine, examine_run
from halos_backend.errors import ExitCode

from halos_tui.cli.options import Json, RunsDir, runs_root
from halos_tui.headless.findings import finding_lines


def command(
    config: Annotated[Path | None, typer.Argument(help="A run file to examine too.")] = None,
    json: Json = False,
    runs_dir: RunsDir = None,
) -> int:
    """Examine this machine, and what a run file would need. Exits 1 when there is a problem."""
    root = runs_root(runs_dir)
    settings = None if config is None else resolve(load_settings(config))
    findings = examine_machine(root)
    if settings is not None:
        findings += examine_run(settings, root)
    lines = _json_lines(findings) if json else finding_lines(findings)
    sys.stdout.write("\n".join(lines) + "\n")
    has_problem = any(finding.level == "problem" for finding in findings)
    return ExitCode.FAILED if has_problem else ExitCode.COMPLETED


def _json_lines(findings: list[Finding]) -> list[str]:
    return [msgspec.json.encode(finding).decode() for finding in findings]
