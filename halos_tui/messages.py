"""What the feeds tell the screens."""

from __future__ import annotations

from typing import Generic, TypeVar

from textual.message import Message

View = TypeVar("View")


class Updated(Message, Generic[View]):
    """A feed has something new to draw. Only its own screen sees it."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view


class FeedFailed(Message):
    """A feed cannot read what it should, and why."""

    def __init__(self, problem: str) -> None:
        super().__init__()
        self.problem = problem
