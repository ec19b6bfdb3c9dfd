"""Handles a key to its end before the next one, so that a burst does what slow typing does.

Textual 8.2.8 puts a key into the queue of the focused widget. What the widget does not take goes
from queue to queue up to the app, which looks its binding up and does the action. A slow line
delivers several keys in one read: the characters among them are in the widget's queue by then, and
overtake the backspace before them; they also overtake an enter that closes their field, and a key
that opens another screen.

`OrderedKeysApp` holds the later keys back meanwhile. A key that comes alone waits for nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from textual.app import App
from textual.events import Event, InputEvent, Key, MouseMove, Paste
from textual.message_pump import MessagePump
from textual.widgets import Input

Return = TypeVar("Return")

HOLD_S = 3.0
"""A key waits no longer than that for the one before it, whatever that led to."""
MOST_PASSES = 12
"""Nothing that one key leads to is passed on more often; what comes by itself must not hold keys up
for ever."""
POLL_S = 0.005


class OrderedKeysApp(App[Return]):
    """An app for a slow line. Its keys, clicks and pastes are handled one after the other."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._later: deque[Event] = deque()
        self._handling: asyncio.Task[None] | None = None
        self._holders: dict[object, float] = {}

    def hold_keys(self, holder: object) -> None:
        """Has later keys wait until the holder releases them, or for HOLD_S."""
        self._holders[holder] = time.monotonic() + HOLD_S

    def release_keys(self, holder: object) -> None:
        self._holders.pop(holder, None)

    @contextmanager
    def keys_held(self) -> Iterator[None]:
        """Has later keys wait while this task works, but not while it waits for a person."""
        holder = asyncio.current_task()
        self.hold_keys(holder)
        try:
            yield
        finally:
            self.release_keys(holder)

    async def push_screen_wait(self, screen: Any, *, mode: str | None = None) -> Any:
        """Waits for the answer of a dialog, whose keys are not held back."""
        holder = asyncio.current_task()
        is_holder = self._holders.pop(holder, None) is not None
        try:
            return await super().push_screen_wait(screen, mode=mode)
        finally:
            if is_holder:
                self.hold_keys(holder)

    async def on_event(self, event: Event) -> None:
        """Takes what a person does in turn. Ctrl+c goes past all, since it leaves the app."""
        if not _is_of_a_person(event) or (isinstance(event, Key) and event.key == "ctrl+c"):
            await super().on_event(event)
        elif self._handling is not None:
            self._later.append(event)
        else:
            before = self._pumps()
            await super().on_event(event)
            if not isinstance(event, MouseMove):  # it leads to nothing that a later key needs
                self._handling = asyncio.create_task(self._handle_later(event, before))
                self._handling.add_done_callback(self._handled)

    async def _handle_later(self, event: Event, before: Sequence[MessagePump]) -> None:
        """Ends once all that a person did is handled, the event included that is handed on."""
        while True:
            is_text = self._later and _is_text(event) and _is_text(self._later[0])
            if not (is_text and isinstance(before[0], Input) and before[0] is self.focused):
                await self._settle(before)
            if not self._later:
                self._handling = None  # at once: the next key may come before this task has ended
                return
            event, before = self._later.popleft(), self._pumps()
            is_taken = asyncio.Event()
            if not self.call_later(self._hand_on, event, is_taken):
                return
            await is_taken.wait()

    async def _hand_on(self, event: Event, is_taken: asyncio.Event) -> None:
        """Hands an event on in the app's own task, as if it came only now."""
        try:
            await super().on_event(event)
        finally:
            is_taken.set()

    def _handled(self, task: asyncio.Task[None]) -> None:
        """Has an error of the task end the app, as any other error does."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.call_later(_raise, error)  # where it ends the app

    async def _settle(self, before: Sequence[MessagePump]) -> None:
        """Waits for all that the last event led to: messages, and work that holds keys."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HOLD_S):
                await self._settle_messages(before)
                while self._is_held():
                    await asyncio.sleep(POLL_S)
                    if not self._is_held():
                        await self._settle_messages(())

    async def _settle_messages(self, before: Sequence[MessagePump]) -> None:
        """Passes through the queues, the deepest first, until nothing is in them any more.

        An event that bubbles is ahead in every queue, so that each pass sees it off by one action
        or message at least.
        """
        was_quiet = False
        for _ in range(MOST_PASSES):
            pumps = self._pumps()
            for pump in dict.fromkeys((*before, *pumps)):
                await _pass_through(pump)
            is_quiet = pumps == self._pumps() and not any(map(_num_queued, (*before, *pumps)))
            if is_quiet and was_quiet:
                return
            was_quiet = is_quiet

    def _pumps(self) -> list[MessagePump]:
        """Returns what a key goes through: from the focused widget up to the app."""
        if not self.screen_stack:
            return [self]
        return [*dict.fromkeys((*(self.focused or self.screen).ancestors_with_self, self))]

    def _is_held(self) -> bool:
        now = time.monotonic()
        return any(until > now for until in self._holders.values())


def hold_keys(pump: MessagePump) -> None:
    """Has later keys wait until `release_keys`, where the app can do that."""
    if isinstance(app := pump.app, OrderedKeysApp):
        app.hold_keys(pump)


def release_keys(pump: MessagePump) -> None:
    if isinstance(app := pump.app, OrderedKeysApp):
        app.release_keys(pump)


@contextmanager
def keys_held(app: App[Any]) -> Iterator[None]:
    """Has later keys wait while this task works, but not while it waits for a person."""
    if isinstance(app, OrderedKeysApp):
        with app.keys_held():
            yield
    else:
        yield


async def _pass_through(pump: MessagePump) -> None:
    """Waits until all is handled that is in the queue now."""
    passed = asyncio.Event()
    if pump.call_later(passed.set):
        await passed.wait()


def _num_queued(pump: MessagePump) -> int:
    return pump.message_queue_size


def _is_of_a_person(event: Event) -> bool:
    """Says whether an event comes from the terminal, and not back from a widget."""
    return isinstance(event, InputEvent | Paste) and not event.is_forwarded


def _is_text(event: Event) -> bool:
    """Says whether a field only adds a character; it keeps the order of several."""
    return isinstance(event, Key) and event.is_printable


def _raise(error: BaseException) -> None:
    raise error
