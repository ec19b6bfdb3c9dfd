"""What all screens share: keys from the registry, a feed that runs while they are on top."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from textual.screen import Screen

from halos_tui.actions import ScreenName, actions_of, bindings_of
from halos_tui.feed import Feed, FeedFailed, Updated

if TYPE_CHECKING:
    from halos_tui.app import HalosApp

View = TypeVar("View")


class HalosScreen(Screen[None]):
    """A screen named `NAME`: its keys, help and palette entries come from the action registry.

    A subclass has a method `action_<id>` for each of its actions, calls `follow` when mounted, and
    draws what arrives as `Updated` in `on_updated`.
    """

    NAME: ClassVar[ScreenName]
    IS_REDUCED: ClassVar[bool] = False
    """Lays itself out on any terminal, however small; others have a notice instead."""

    def __init_subclass__(cls, **options: Any) -> None:
        if "NAME" in cls.__dict__:
            cls.BINDINGS = [*bindings_of(cls.NAME)]
        super().__init_subclass__(**options)

    def __init__(self) -> None:
        super().__init__()
        self._feeds: list[Feed[Any]] = []

    @property
    def halos(self) -> HalosApp:
        return cast("HalosApp", self.app)

    def follow(self, read: Callable[[], View | None], *, interval_s: float = 0.25) -> Feed[View]:
        """Read in a thread while this screen is on top; what is new arrives as `Updated`."""
        feed: Feed[View] = Feed(
            read,
            deliver=lambda view: self.post_message(Updated(view, feed.is_drawn)),
            fail=lambda problem: self.post_message(FeedFailed(problem)),
            interval_s=interval_s,
        )
        self._feeds.append(feed)
        feed.start()
        return feed

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Not there with --read-only: what writes."""
        del parameters
        if not self.halos.options.read_only:
            return True
        return all(entry.id != action or not entry.writes for entry in actions_of(self.NAME))

    def on_updated(self, message: Updated[Any]) -> Awaitable[None] | None:
        """After the screen's own handler of that name."""
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
        """To the screen before; the last one stays."""
        if len(self.app.screen_stack) > 2:
            self.app.pop_screen()
