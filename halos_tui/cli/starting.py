"""Goes from settings to a followed run, or to a plan of one, for `run` and `demo`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from halos_backend.client.start import create_run
from halos_backend.config.load import defaults_taken
from halos_backend.config.schema import RunSettings
from halos_backend.errors import ExitCode
from halos_backend.findings import Finding, with_level
from halos_backend.store.run_dir import RunDir

from halos_tui.app_options import AppOptions
from halos_tui.cli import following, opening
from halos_tui.formatting import visible
from halos_tui.headless import notices
from halos_tui.headless.interrupts import ends_tidily
from halos_tui.headless.progress import ProgressBar
from halos_tui.new_run.checking import prompts_reporter
from halos_tui.new_run.create import default_name, make_run
from halos_tui.new_run.draft import find_plan, plan_lines


def start(
    settings: RunSettings,
    config_text: str,
    *,
    root: Path,
    name: str | None,
    json: bool,
    detach: bool,
    pause_on_term: bool,
    app: AppOptions | None = None,
) -> tuple[RunDir, ExitCode]:
    """Creates the run and follows it to its end, or shows it in the app.

    Raises InputsError for what the checks refuse, RunInUseError where its GPUs are another run's.
    """

    def create(bar: ProgressBar) -> RunDir:
        return create_run(
            root,
            name or default_name(settings, root),
            config_text=config_text,
            settings=settings.model_dump(mode="json"),
            report=prompts_reporter(bar.update),
        )

    return start_new(
        settings,
        create,
        root=root,
        json=json,
        detach=detach,
        pause_on_term=pause_on_term,
        app=app,
    )


def start_new(
    settings: RunSettings,
    create: Callable[[ProgressBar], RunDir],
    *,
    root: Path,
    json: bool,
    detach: bool,
    pause_on_term: bool,
    app: AppOptions | None = None,
) -> tuple[RunDir, ExitCode]:
    """Starts like `start` a run of these settings that `create` makes."""
    following.check_options(detach=detach, pause_on_term=pause_on_term)
    if app is not None:
        opening.check_theme(app)

    def create_with_bar() -> RunDir:
        with ends_tidily(), ProgressBar() as bar:
            return create(bar)

    run_dir = make_run(settings, create_with_bar, root=root, warn=say_warning)
    if app is not None:
        return run_dir, opening.start_in_app(run_dir, app)
    code = following.start_and_follow(
        run_dir, json=json, detach=detach, pause_on_term=pause_on_term
    )
    return run_dir, code


def say_defaults(overrides: Sequence[str] | None, settings: RunSettings) -> None:
    """Says what `--set KEY=default` comes to, before anything begins."""
    for sentence in defaults_taken(overrides or (), settings.model_dump(mode="json")):
        notices.say(visible(sentence))


def say_warning(finding: Finding) -> None:
    notices.say(with_level(finding))


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
