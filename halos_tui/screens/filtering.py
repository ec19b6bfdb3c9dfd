"""A screen that shows what a person wishes for, of which a filter is a part."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from halos_backend.errors import UsageError
from textual import on

from halos_tui.messages import FeedFailed
from halos_tui.screens.asking import Asking
from halos_tui.screens.writing_out import WritingOut
from halos_tui.search_term import SearchTerm, read_term
from halos_tui.widgets.ask_line import AskLine


class Filtering(WritingOut, Asking):
    """`_wish` has a `term`. `_problem` is what is wrong, for as long as it is."""

    QUESTION: ClassVar[str] = "filter"
    HINT: ClassVar[str] = "words, or /pattern"

    def __init__(self) -> None:
        super().__init__()
        self._problem = ""

    @abstractmethod
    def say(self) -> None:
        """Say anew what is shown, and how it stands."""

    @abstractmethod
    def focus_main(self) -> None:
        """Give the keys back to what the screen is about."""

    def read_filter(self, text: str) -> SearchTerm | None:
        """Raises UsageError for a text that is no filter."""
        return read_term(text)

    def filter_text(self, term: SearchTerm) -> str:
        """As a person would type it."""
        return f"{'/' * term.is_regex}{term.text}"

    def on_feed_failed(self, message: FeedFailed) -> None:
        """Besides the notice that every screen gives: say it for as long as it is so."""
        self._problem = message.problem
        self.say()

    def action_search(self) -> None:
        term = self._wish.term
        text = "" if term is None else self.filter_text(term)
        self.bar.ask("filter", self.QUESTION, text=text, hint=self.HINT)

    @on(AskLine.Changed)
    def _typed(self, message: AskLine.Changed) -> None:
        self.bar.refuse("")
        if message.purpose == "filter":
            self._filter(message.text)

    @on(AskLine.Answered)
    def _answered(self, message: AskLine.Answered) -> None:
        if message.purpose != "filter":
            self.answered(message.purpose, message.text)
        elif self._filter(message.text):
            self.close_bar()

    def answered(self, purpose: str, text: str) -> None:
        """Another question than that for a filter; here the path of a file."""
        self.write(text, overwrite=purpose == "overwrite")

    def close_bar(self, *, forget: bool = False) -> None:
        """With `forget` the filter goes as well."""
        self.bar.close()
        self.focus_main()
        if forget and self._wish.term is not None:
            self.ask_for(term=None)

    def ask_for(self, **changes: Any) -> None:
        """Show something else."""
        self.wish_for(**changes)
        self.say()

    def _filter(self, text: str) -> bool:
        """False where the text is no filter; the one before stays then."""
        try:
            term = self.read_filter(text)
        except UsageError as error:
            self.bar.refuse(str(error))
            return False
        if term != self._wish.term:
            self.ask_for(term=term)
        return True
