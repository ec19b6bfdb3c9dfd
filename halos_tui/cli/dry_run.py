"""Does `--dry-run`: checks the inputs for real in a temporary directory, and prints the plan."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
from halos_backend.config.schema import RunSettings
from halos_backend.errors import ExitCode

from halos_tui.cli.starting import say_warning
from halos_tui.headless.interrupts import ends_tidily
from halos_tui.headless.progress import ProgressBar
from halos_tui.new_run.create import default_name
from halos_tui.new_run.plan import find_plan, plan_lines


def show_plan(
    settings: RunSettings, config_text: str, *, root: Path, name: str | None, json: bool
) -> ExitCode:
    """Prints what a run would do, and leaves nothing behind. Raises UsageError for wrong inputs."""
    with ends_tidily(), ProgressBar() as bar:
        plan = find_plan(
            settings,
            config_text,
            root=root,
            name=name or default_name(settings, root),
            report=bar.update,
            warn=say_warning,
        )
    text = msgspec.json.encode(plan).decode() if json else "\n".join(plan_lines(plan))
    sys.stdout.write(text + "\n")
    return ExitCode.COMPLETED
