"""This verb is `doctor`: it says what this machine has, and what a run file needs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from halos_backend.errors import ExitCode
from halos_backend.findings import problems_in

from halos_tui.cli import completing
from halos_tui.cli.options import Json, RunsDir, runs_root


def command(
    config: Annotated[
        Path | None,
        typer.Argument(help="A run file to examine too.", autocompletion=completing.files),
    ] = None,
    json: Json = False,
    runs_dir: RunsDir = None,
) -> int:
    """Examine this machine, and all that a run file names, as --dry-run does.

    Says every problem at once, with what to do about it. Exits 1 when there is one.
    """
    from halos_backend.config.load import load_settings, resolve  # pydantic: 0.1 s
    from halos_backend.config.toml_text import read_run_file
    from halos_backend.doctor import examine_machine

    from halos_tui.headless.interrupts import ends_tidily
    from halos_tui.headless.notices import finding_lines
    from halos_tui.headless.progress import ProgressBar
    from halos_tui.new_run.checking import examine

    root = runs_root(runs_dir)
    findings = []
    if config is not None:
        text = read_run_file(config)
        settings = resolve(load_settings(config, text=text))
        with ends_tidily(), ProgressBar() as bar:
            findings = examine(settings, text, root=root, report=bar.update).findings
    findings = [*examine_machine(root), *findings]
    as_json = (msgspec.json.encode(finding).decode() for finding in findings)
    lines = as_json if json else finding_lines(findings)
    sys.stdout.write("\n".join(lines) + "\n")
    return ExitCode.FAILED if problems_in(findings) else ExitCode.COMPLETED
