"""Owns the app: which screens there are, and how a person gets from one to another. Draws nothing.

It only reads run directories and writes requests, so that killing it never touches a run.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from halos_backend.errors import HalosError
from halos_backend.events import Stage
from halos_backend.store.run_dir import RunDir
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.events import DescendantFocus, Resize
from textual.filter import ANSIToTruecolor
from textual.screen import Screen
from textual.widgets import Input
from textual.worker import WorkerFailed

from halos_tui.app_options import AppOptions as AppOptions
from halos_tui.feed import in_background
from halos_tui.formatting import visible_lines
from halos_tui.keymap import UserConfig, in_keys, load_config
from halos_tui.screens.base import HalosScreen, TooSmallScreen, has_room
from halos_tui.terminal.background import BackgroundTold, asking
from halos_tui.terminal.diff_output import SparingApp
from halos_tui.terminal.filters import AsciiOnly, NoColours, SixteenColours, TerminalsBackground
from halos_tui.terminal.key_order import OrderedKeysApp
from halos_tui.theme import (
    DEFAULT_THEME,
    MONOCHROME,
    TERMINAL,
    load_app_themes,
    monochrome_theme,
    theme_on,
)


class HalosApp(OrderedKeysApp[None], SparingApp[None]):
    """Opens on the list of runs, or on `run`.

    Once it has ended, `failure` is the first error that nothing in it handled, and `ended_by` the
    signal that ended it; its `return_code` is None where nothing in it decided to end.
    """

    TITLE = "halos-tui"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+c", "quit", show=False, priority=True)]
    CSS = """
    Toast { width: 60; max-width: 90%; }
    Input>.input--placeholder, Input>.input--suggestion { color: $text-muted; }
    Input>.input--selection { background: $accent; color: $background; }
    Input:ansi {
        &>.input--cursor { background: ansi_default; color: ansi_default; text-style: reverse; }
        &>.input--selection { background: ansi_default; color: ansi_default; text-style: reverse; }
    }
    """

    def __init__(
        self, options: AppOptions, *, run: RunDir | None = None, config: UserConfig | None = None
    ) -> None:
        super().__init__()
        self.options = options
        self.config = load_config() if config is None else config
        self._first_run = run
        self.failure: BaseException | None = None
        self.ended_by: signal.Signals | None = None
        self.animation_level = "none"
        themes, self._theme_problems = load_app_themes()
        self._themes = themes
        for theme in (*themes.values(), monochrome_theme()):
            self.register_theme(theme)
        self.follows_terminal = not self.no_color and options.theme is self.config.theme is None
        self._sixteen_colours = SixteenColours(enabled=False)
        self._terminals_background = TerminalsBackground(enabled=False)
        self._filters = [
            *(kept for kept in self._filters if isinstance(kept, ANSIToTruecolor)),
            self._terminals_background,
            self._sixteen_colours,
            NoColours(enabled=self.no_color),
            AsciiOnly(enabled=options.is_ascii),
        ]
        self.theme = self._wanted_theme()

    @property
    def is_read_only(self) -> bool:
        return self.options.read_only

    def watch_theme(self) -> None:
        """Gives a theme of ANSI colours no others, and the terminal's theme its background."""
        self._sixteen_colours.enabled = self.current_theme.ansi
        self._terminals_background.enabled = self.theme == TERMINAL

    def get_driver_class(self) -> type[Driver]:
        return asking(super().get_driver_class())

    def on_background_told(self, message: BackgroundTold) -> None:
        """Puts the app into the terminal's colour, unless a person has chosen a theme."""
        theme = theme_on(message.background, self._themes)
        if theme is None or not self.follows_terminal or TERMINAL in self._themes:
            return
        self._terminals_background.colour = message.background.rich_color
        self._themes[TERMINAL] = theme
        self.register_theme(theme)
        self.theme = TERMINAL

    def on_resize(self, event: Resize) -> None:
        """Checks the size too, beside what the base class does."""
        del event
        self.call_after_refresh(self.mind_size)

    def mind_size(self) -> None:
        """A screen that has no room waits behind a notice; the notice goes when there is room."""
        is_shown = isinstance(self.screen, TooSmallScreen)
        if is_shown and has_room(self.size):
            self.pop_screen()
        elif not (is_shown or has_room(self.size) or getattr(self.screen, "IS_REDUCED", False)):
            self.push_screen(TooSmallScreen())

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """A blinking cursor would send bytes for ever."""
        if isinstance(event.widget, Input):
            event.widget.cursor_blink = False

    def on_mount(self) -> None:
        from halos_tui.runs.screen import RunsScreen

        if not self.is_headless:  # a terminal is left as it was found
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self._end_by, number)
        self.set_keymap(dict(self.config.keys))
        self.push_screen(RunsScreen())
        if self._first_run is not None:
            self.open_run(self._first_run)
        for problem in (*self.config.problems, *self._theme_problems):
            self.notify(problem, severity="warning", markup=False, timeout=10)

    def fail(self, error: Exception) -> None:
        """Ends the app for an error of another thread, which may call this."""
        self.call_later(self._handle_exception, error)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Yields the palette: what can be done on this screen, and the themes."""
        if isinstance(screen, HalosScreen):
            for action in screen.actions():
                if action.id != "command_palette" and screen.check_action(action.id, ()):
                    yield SystemCommand(
                        action.title, action.tooltip, lambda id=action.id: self._do(screen, id)
                    )
        for name in self._themes:
            yield SystemCommand(f"Theme {name}", "Its colours", lambda name=name: self._take(name))

    def take_next_theme(self) -> None:
        names = sorted(self._themes)
        if names:
            place = names.index(self.theme) + 1 if self.theme in names else 0
            self._take(names[place % len(names)])

    def show_help(self) -> None:
        from halos_tui.screens.help import HelpScreen

        if isinstance(self.screen, HalosScreen) and not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen))

    def in_keys(self, text: str) -> str:
        """Writes the commands of a text as keys that do the same here; a dialog is left first."""
        screen = self.screen.NAME if isinstance(self.screen, HalosScreen) else None
        return in_keys(text, self.config.keys, screen=screen, read_only=self.options.read_only)

    async def _check_bindings(self, key: str, priority: bool = False) -> bool:
        """Answers a key too that no binding takes, because what it does is hidden now."""
        if await super()._check_bindings(key, priority):
            return True
        return not priority and isinstance(self.screen, HalosScreen) and self.screen.answer_key(key)

    def open_run(self, run_dir: RunDir) -> None:
        from halos_tui.run.screen import RunScreen

        self.push_screen(RunScreen(run_dir))

    def open_completions(
        self, run_dir: RunDir, *, round: int | None = None, prompt_id: str | None = None
    ) -> None:
        """Opens the completions of the newest round, unless one is named; at a prompt's group."""
        from halos_tui.completions.screen import CompletionsScreen

        self.push_screen(CompletionsScreen(run_dir, round=round, prompt_id=prompt_id))

    def open_logs(
        self, run_dir: RunDir, *, round: int | None = None, stage: Stage | None = None
    ) -> None:
        """Opens the log of the stage that runs, or ran last, unless one is named."""
        from halos_tui.logs.screen import LogsScreen

        self.push_screen(LogsScreen(run_dir, round=round, stage=stage))

    def open_changes(self, run_dir: RunDir) -> None:
        """Opens what was changed in the run, and what its rounds differ in."""
        from halos_tui.changes.screen import ChangesScreen

        self.push_screen(ChangesScreen(run_dir))

    def open_metrics(self, run_dirs: Sequence[RunDir]) -> None:
        """Opens the metrics of one run, or of several over each other."""
        from halos_tui.metrics.screen import MetricsScreen

        self.push_screen(MetricsScreen(run_dirs))

    def open_tweak(self, run_dir: RunDir) -> None:
        def load() -> Callable[[], Screen[Any]]:
            from halos_tui.settings.tweak_screen import TweakScreen

            return lambda: TweakScreen(run_dir)

        self._load_and_push(load)

    def open_new_run(self, *, start_from: RunDir | None = None) -> None:
        """Begins with the settings of a preset, or of another run."""

        def load() -> Callable[[], Screen[Any]]:
            from halos_tui.new_run.screen import NewRunScreen

            return lambda: NewRunScreen(start_from=start_from)

        self._load_and_push(load)

    def _load_and_push(self, load: Callable[[], Callable[[], Screen[Any]]]) -> None:
        """Opens a screen that needs the schema, whose import takes too long for the event loop."""

        async def push() -> None:
            opener = self.screen
            with self.keys_held():
                make = await in_background(load)
                if self.screen is opener:
                    await self.push_screen(make())

        self.run_worker(push(), group="open", exclusive=True)

    def open_fork(self, run_dir: RunDir) -> None:
        """Asks for the fork of a run, and opens the run that is made."""
        self.run_worker(self._fork(run_dir), group="fork", exclusive=True)

    async def _fork(self, run_dir: RunDir) -> None:
        def load() -> Callable[[], Screen[RunDir | None]]:
            from halos_tui.control.batch import observe_closely
            from halos_tui.new_run.fork_dialog import ForkDialog

            state = observe_closely(run_dir).state
            return lambda: ForkDialog(run_dir, state, root=self.options.runs_root)

        with self.keys_held():
            try:
                make = await in_background(load)
            except HalosError as error:
                text = visible_lines(self.in_keys(str(error)))
                self.notify(text, severity="error", markup=False)
                return
            made = await self.push_screen_wait(make())
            if made is not None:
                self.open_run(made)

    def _handle_exception(self, error: Exception) -> None:
        """Textual calls this for every error that nothing handles."""
        if self.failure is None:
            self.failure = error.error if isinstance(error, WorkerFailed) else error
        super()._handle_exception(error)

    def _fatal_error(self) -> None:
        """Ends the app. Textual would print the source and all variables of each function."""
        self.panic()

    def _end_by(self, number: signal.Signals) -> None:
        self.ended_by = number
        self.exit()

    def _do(self, screen: Screen[Any], action: str) -> None:
        """Does an action once the palette is closed."""
        self.call_later(self.run_action, action, screen)

    def _take(self, theme: str) -> None:
        if self.no_color:
            self.notify("NO_COLOR is set: there are no colours to choose", markup=False)
        else:
            self.follows_terminal = False
            self.theme = theme

    def _wanted_theme(self) -> str:
        """Returns the first theme of: NO_COLOR's, the command line's, the user's, ours."""
        if self.no_color:
            return MONOCHROME
        wanted = [self.options.theme, self.config.theme, DEFAULT_THEME]
        for name in wanted:
            if name in self._themes:
                return name
            if name is not None:
                known = ", ".join(sorted(self._themes))
                self._theme_problems.append(f"no theme '{name}'; there are {known}")
        return next(iter(self._themes), "textual-dark")
