"""The live view of a followed run on a terminal: drawn in place, at most 4 times a second."""

from __future__ import annotations

from collections import deque

from halos_backend import clock
from halos_backend.events import AttemptEvent, RunEvent, Warned
from rich.console import Console
from rich.live import Live

from halos_tui.headless.picture import Picture, draw
from halos_tui.run.observed import SeenStatus
from halos_tui.run.rounds import place
from halos_tui.tailing import RunTail
from halos_tui.theme import load_theme

INTERVAL_S = 0.25
IDLE_INTERVAL_S = 1.0
"""Without news only the clocks in the picture move."""
NUM_WARNINGS = 2


class LiveView:
    """Redraws one compact picture of the run below the cursor."""

    def __init__(self, *, footer: str) -> None:
        self.console = Console(theme=load_theme(), highlight=False, markup=False, emoji=False)
        self._footer = footer
        self._warnings: deque[str] = deque(maxlen=NUM_WARNINGS)
        self._live: Live | None = None
        self._tail: RunTail | None = None
        self._status: SeenStatus = "created"
        self._has_news = True
        self._drawn_at = float("-inf")

    def show(
        self, events: list[RunEvent | AttemptEvent], tail: RunTail, *, status: SeenStatus
    ) -> None:
        self._tail = tail
        self._status = status
        self._has_news = self._has_news or bool(events)
        for event in events:
            if isinstance(event, Warned):
                self._warnings.append(
                    f"{place(tail.state, event.round)} {event.stage}: {event.text}"
                )
        interval = INTERVAL_S if self._has_news else IDLE_INTERVAL_S
        if clock.monotonic() - self._drawn_at >= interval:
            self._draw(tail)

    def hide(self) -> None:
        """Take the picture off the screen; the next `show` puts it back."""
        if self._live is not None:
            self._live.transient = True
            self._live.stop()
            self._live = None
            self._drawn_at = float("-inf")

    def close(self) -> None:
        """Leave the newest picture on the screen."""
        if self._tail is not None and self._live is not None:
            self._footer = ""
            self._draw(self._tail)
            self._live.stop()
            self._live = None
            self._tail = None

    def _draw(self, tail: RunTail) -> None:
        picture = draw(
            Picture(
                tail.state,
                self._status,
                dict(tail.live),
                tuple(self._warnings),
                self._footer,
                clock.now(),
            ),
            width=self.console.width,
            height=self.console.height,
            is_ascii=not self.console.encoding.startswith("utf"),
        )
        if self._live is None:
            self._live = Live(
                console=self.console,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start()
        self._live.update(picture, refresh=True)
        self._has_news = False
        self._drawn_at = clock.monotonic()
