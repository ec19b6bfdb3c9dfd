"""What the feeds tell the screens."""

from __future__ import annotations

from threading import Event
from typing import Generic, TypeVar

from textual.message import Message

View = TypeVar("View")


class Updated(Message, Generic[View]):
    """A feed has something new to draw. Only its own screen sees it.

    `is_drawn` is set once that is done; the feed reads on only then.
    """

    def __init__(self, view: View, is_drawn: Event | None = None) -> None:
        super().__init__()
        self.view = view
        self.is_drawn = is_drawn or Event()


class FeedFailed(Message):
    """A feed cannot read what it should, and why."""

    def __init__(self, problem: str) -> None:
        super().__init__()
        self.problem = problem
