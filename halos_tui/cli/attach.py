"""This verb is `attach`: it opens the app on one run."""

from __future__ import annotations

from halos_backend.errors import ExitCode
from halos_backend.store.run_dir import find_run

from halos_tui.app_options import AppOptions
from halos_tui.cli.opening import open_app
from halos_tui.cli.options import Ascii, NoMouse, ReadOnly, RunName, RunsDir, ThemeName, runs_root


def command(
    run: RunName,
    read_only: ReadOnly = False,
    ascii: Ascii = False,
    no_mouse: NoMouse = False,
    theme: ThemeName = None,
    runs_dir: RunsDir = None,
) -> ExitCode:
    """Open the app on a run.

    Leaving it never touches the run (exit code 0).
    """
    root = runs_root(runs_dir)
    options = AppOptions(root, read_only, ascii, not no_mouse, theme)
    open_app(options, run_dir=find_run(root, run))
    return ExitCode.COMPLETED
