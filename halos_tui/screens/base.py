"""Owns what all screens share: keys from the registry, a feed that runs while they are on top."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Protocol, TypeVar, cast

from halos_backend.events import Stage
from halos_backend.store.run_dir import RunDir
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from halos_tui.actions import Action, ScreenName, actions_of, bindings_of
from halos_tui.app_options import AppOptions
from halos_tui.feed import Feed, FeedFailed, Updated
from halos_tui.formatting import visible_lines
from halos_tui.keymap import UserConfig, in_keys, keys_of, shown_key
from halos_tui.widgets.footer import Footer
from halos_tui.widgets.painted import FRAMED, Painted

View = TypeVar("View")

SMALLEST = (40, 10)
ROOMY = (100, 30)
"""From so many columns and lines on, panels have a box around them, else a rule above."""
WIDTHS = [(0, "-narrow"), (ROOMY[0], "-wide")]
HEIGHTS = [(0, "-low"), (14, "-short"), (ROOMY[1], "-tall")]
"""Where it is low, panels have neither."""


class Navigator(Protocol):
    """Opens screens, so that no screen imports another one. The app is one."""

    options: AppOptions
    config: UserConfig

    def open_run(self, run_dir: RunDir) -> None: ...

    def open_completions(
        self, run_dir: RunDir, *, round: int | None = None, prompt_id: str | None = None
    ) -> None:
        """Opens the completions of the newest round, unless one is named; at a prompt's group."""

    def open_logs(
        self, run_dir: RunDir, *, round: int | None = None, stage: Stage | None = None
    ) -> None:
        """Opens the log of the stage that runs, or ran last, unless one is named."""

    def open_changes(self, run_dir: RunDir) -> None: ...

    def open_metrics(self, run_dirs: Sequence[RunDir]) -> None:
        """Opens the metrics of one run, or of several over each other."""

    def open_tweak(self, run_dir: RunDir) -> None: ...

    def open_new_run(self, *, start_from: RunDir | None = None) -> None:
        """Begins with the settings of a preset, or of another run."""

    def open_fork(self, run_dir: RunDir) -> None:
        """Asks for the fork of a run, and opens the run that is made."""

    def show_help(self) -> None: ...

    def in_keys(self, text: str) -> str:
        """Writes the commands of a text as keys, for whoever is no HalosScreen."""

    def take_next_theme(self) -> None: ...

    def mind_size(self) -> None:
        """Puts a notice over the screen where the terminal is too small for it."""


class HalosScreen(Screen[None]):
    """This is a screen named `NAME`: its keys, help and palette come from the action registry.

    A subclass has a method `action_<id>` for each of its actions, calls `follow` when mounted, and
    draws what arrives as `Updated` in `on_updated`. Where some of its actions do nothing at times,
    it says so by `why_not`, and calls `mind_actions` when that may have changed.
    """

    NAME: ClassVar[ScreenName]
    IS_REDUCED: ClassVar[bool] = False
    """Such a screen lays itself out on any terminal, however small; others have a notice
    instead."""

    DEFAULT_CSS = """
    HalosScreen {
        .framed {
            border-top: solid $border-blurred;
            border-title-color: $foreground;
            border-subtitle-color: $text-muted;
        }
        .framed:focus { border-top: solid $border; border-title-style: bold; }
        &.-ascii .framed { border-top: ascii $border-blurred; }
        &.-ascii .framed:focus { border-top: ascii $border; }
        &.-single .framed, &.-low .framed { border: none; }
        &.-wide.-tall .framed { border: round $border-blurred; padding: 0 1; }
        &.-wide.-tall .framed:focus { border: round $border; }
        &.-wide.-tall.-ascii .framed { border: ascii $border-blurred; }
        &.-wide.-tall.-ascii .framed:focus { border: ascii $border; }
    }
    """

    TITLES: ClassVar[Mapping[str, str]] = {}
    """Panels that have a border, by their ids, with their titles."""
    BORDER_KEYS: ClassVar[Mapping[str, Sequence[str]]] = {}
    """These actions stand in the border of the panel of that id, which they are about."""
    HORIZONTAL_BREAKPOINTS = WIDTHS
    VERTICAL_BREAKPOINTS = HEIGHTS

    def __init_subclass__(cls, **options: Any) -> None:
        if "NAME" in cls.__dict__:
            cls.BINDINGS = [*bindings_of(cls.NAME)]
        super().__init_subclass__(**options)

    def __init__(self) -> None:
        super().__init__()
        self._feeds: list[Feed[Any]] = []
        self._offered: list[tuple[str, str]] = []

    def on_mount(self) -> None:
        self.set_class(self.halos.options.is_ascii, "-ascii")
        self.set_class(len(self.TITLES) == 1, "-single")
        for panel, title in self.TITLES.items():
            framed = self.query_one(f"#{panel}")
            if isinstance(framed, Painted):
                framed.frame(title)
            else:
                framed.add_class(FRAMED)
                framed.border_title = Content(title)
        self.call_after_refresh(self._write_border_keys)

    def _write_border_keys(self) -> None:
        """Writes keys as they are mapped; only a box has room for them."""
        actions = {action.id: action for action in actions_of(self.NAME)}
        for panel, names in self.BORDER_KEYS.items():
            texts = [
                f"{self.key(name)} {actions[name].title.lower()}"
                for name in names
                if self.check_action(name, ())
            ]
            self.query_one(f"#{panel}").border_subtitle = (
                Content("  ".join(texts)) if texts else None
            )

    @property
    def halos(self) -> Navigator:
        return cast("Navigator", self.app)

    def follow(self, read: Callable[[], View | None], *, interval_s: float = 0.25) -> Feed[View]:
        """Reads in a thread while this screen is on top; what is new arrives as `Updated`."""
        feed: Feed[View] = Feed(
            read,
            deliver=lambda view: self.post_message(Updated(view, feed.is_drawn)),
            fail=lambda problem: self.post_message(FeedFailed(problem)),
            interval_s=interval_s,
        )
        self._feeds.append(feed)
        feed.start()
        return feed

    def why_not(self, action: str) -> str:
        """Says why an action does nothing now; "" where it does something."""
        del action
        return ""

    def words_of(self, action: Action) -> tuple[str, str]:
        """Returns an action's title and what it does, as things stand."""
        return action.title, action.tooltip

    def first_actions(self) -> Sequence[str]:
        """Returns what a person does next, as things stand, first; the others follow."""
        return ()

    def actions(self) -> list[Action]:
        """Returns all actions of this screen in the order of use, worded as things stand."""
        found = actions_of(self.NAME, read_only=self.halos.options.read_only)
        places = {name: place for place, name in enumerate(self.first_actions())}
        found.sort(key=lambda action: places.get(action.id, len(places)))
        words = [self.words_of(action) for action in found]
        return [
            replace(action, title=title, tooltip=tooltip)
            for action, (title, tooltip) in zip(found, words, strict=True)
        ]

    def notify(self, message: str, **options: Any) -> None:
        super().notify(self.in_keys(message), **options)

    def mind_actions(self) -> None:
        """Has the keys follow how things stand; where the same can be done, nothing happens."""
        offered = [
            (action.id, action.title) for action in self.actions() if not self.why_not(action.id)
        ]
        if offered != self._offered:
            self._offered = offered
            self.refresh_bindings()
            self._write_border_keys()

    def key(self, action: str) -> str:
        """Returns the key of an action of this screen, as it is shown."""
        first = keys_of(self.NAME, self.halos.config.keys)[action].split(",")[0]
        return shown_key(first, is_ascii=self.halos.options.is_ascii)

    def in_keys(self, text: str) -> str:
        """Writes the commands of a text as the keys that do the same on this screen."""
        return self.wording()(text)

    def wording(self) -> Callable[[str], str]:
        """Returns what does the same as `in_keys`, for a thread that outlives the app."""
        options, keys = self.halos.options, self.halos.config.keys
        return partial(in_keys, keys=keys, screen=self.NAME, read_only=options.read_only)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hides what does nothing now, and with --read-only what writes."""
        del parameters
        return self._may_be_done(action) and not self.why_not(action)

    def answer_key(self, key: str) -> bool:
        """Answers a key whose action is hidden, with the reason; returns whether it is one."""
        for binding in self._bindings.key_to_bindings.get(key, ()):
            if self._may_be_done(binding.action) and (why := self.why_not(binding.action)):
                self.refuse(binding.action, why)
                return True
        return False

    def refuse(self, action: str, why: str) -> None:
        """Tells a person who wants an action that does nothing now."""
        del action
        self.notify(visible_lines(why), severity="warning", markup=False)

    def _may_be_done(self, action: str) -> bool:
        if not self.halos.options.read_only:
            return True
        return all(entry.id != action or not entry.writes for entry in actions_of(self.NAME))

    def on_resize(self) -> None:
        """Gives the footer as many lines as its keys take on a screen of this size."""
        for footer in self.query(Footer):
            footer.make_room()

    def on_updated(self, message: Updated[Any]) -> Awaitable[None] | None:
        """Runs after the screen's own handler of that name."""
        message.is_drawn.set()
        return None

    def on_feed_failed(self, message: FeedFailed) -> None:
        self.notify(message.problem, severity="error", markup=False)

    def on_screen_suspend(self) -> None:
        for feed in self._feeds:
            feed.suspend()

    def on_screen_resume(self) -> None:
        self.app.call_after_refresh(self.halos.mind_size)
        for feed in self._feeds:
            feed.resume()

    def on_unmount(self) -> None:
        for feed in self._feeds:
            feed.stop()

    async def action_quit(self) -> None:
        await self.app.action_quit()

    def action_help(self) -> None:
        self.halos.show_help()

    def action_command_palette(self) -> None:
        self.app.action_command_palette()

    def action_next_theme(self) -> None:
        self.halos.take_next_theme()

    def action_back(self) -> None:
        """Goes to the screen before; the last one stays."""
        if len(self.app.screen_stack) > 2:
            self.app.pop_screen()


class TooSmallScreen(Screen[None]):
    """It stands before a screen that has no room, so that a small terminal shows nothing broken; it
    goes away by itself when the terminal is large enough.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", show=False),
        Binding("q", "app.quit", "Quit", show=False),
    ]

    def compose(self) -> ComposeResult:
        columns, lines = SMALLEST
        yield Static(
            f"This screen needs at least {columns}x{lines}. Make the terminal larger,"
            " or escape goes back.",
            markup=False,
        )

    def action_leave(self) -> None:
        """Leaves the screen behind it too, where there is a screen before that one."""
        screens = self.app.screen_stack
        behind = screens[-2]
        self.app.pop_screen()
        if len(screens) > 3 and not behind.is_modal:
            self.app.pop_screen()


def has_room(size: tuple[int, int]) -> bool:
    """Says whether a size of columns and lines has room."""
    return size[0] >= SMALLEST[0] and size[1] >= SMALLEST[1]


def is_boxed(size: tuple[int, int]) -> bool:
    """Says whether panels have boxes on a screen of columns and lines."""
    return size[0] >= ROOMY[0] and size[1] >= ROOMY[1]
