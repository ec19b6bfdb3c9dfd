"""The app: which screens there are and how one gets from one to another. It draws nothing itself.

It only reads run directories and writes requests, so that killing it never touches a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from halos_backend.events import Stage
from halos_backend.store.run_dir import RunDir

from halos_tui.wire import SparingApp


@dataclass(frozen=True)
class AppOptions:
    """What the command line said. `runs_root` is where runs live."""

    runs_root: Path
    read_only: bool = False
    is_ascii: bool = False
    mouse: bool = True
    theme: str | None = None


class HalosApp(SparingApp[int]):
    """Opens on the list of runs, or on `run`. Its exit value is the command's exit code."""

    TITLE = "halos-tui"

    def __init__(self, options: AppOptions, *, run: RunDir | None = None) -> None:
        super().__init__()
        self.options = options
        self._first_run = run

    def on_mount(self) -> None:
        from halos_tui.screens.runs import RunsScreen

        self.push_screen(RunsScreen())
        if self._first_run is not None:
            self.open_run(self._first_run)

    def open_run(self, run_dir: RunDir) -> None:
        from halos_tui.screens.run import RunScreen

        self.push_screen(RunScreen(run_dir))

    def open_completions(self, run_dir: RunDir, *, round: int | None = None) -> None:
        """Of the newest round, unless one is named."""
        from halos_tui.screens.completions import CompletionsScreen

        self.push_screen(CompletionsScreen(run_dir, round=round))

    def open_logs(
        self, run_dir: RunDir, *, round: int | None = None, stage: Stage | None = None
    ) -> None:
        """Of the stage that runs, or ran last, unless one is named."""
        from halos_tui.screens.logs import LogsScreen

        self.push_screen(LogsScreen(run_dir, round=round, stage=stage))

    def open_metrics(self, run_dirs: Sequence[RunDir]) -> None:
        """Of one run, or of several overlaid."""
        from halos_tui.screens.metrics import MetricsScreen

        self.push_screen(MetricsScreen(run_dirs))

    def open_changes(self, run_dir: RunDir) -> None:
        from halos_tui.screens.changes import ChangesScreen

        self.push_screen(ChangesScreen(run_dir))

    def open_tweak(self, run_dir: RunDir) -> None:
        from halos_tui.screens.tweak import TweakScreen

        self.push_screen(TweakScreen(run_dir))

    def open_new_run(self, *, start_from: RunDir | None = None) -> None:
        """With the settings of a preset, or of another run."""
        from halos_tui.screens.new_run import NewRunScreen

        self.push_screen(NewRunScreen(start_from=start_from))

    def action_quit_app(self) -> None:
        self.exit(0)
