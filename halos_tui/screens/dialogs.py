"""Owns the dialogs: a question with a few answers, each under a letter, lines of text, and a list
that is filtered by typing.

All share a box over the screen, its heading, and escape. A line of text is a number of rounds, a
path or a name; several of them have labels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, cast

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.events import Key, Resize
from textual.keys import format_key
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from halos_tui.actions import binding_of
from halos_tui.formatting import visible, visible_lines
from halos_tui.screens.base import Navigator
from halos_tui.widgets.completing_input import CompletingInput, Fit, listing
from halos_tui.widgets.panel import Line
from halos_tui.widgets.virtual_list import VirtualList

Answer = TypeVar("Answer")
AROUND_PICKS = 6
"""So many lines of a dialog are around its list: borders, heading, field, a blank one, hint."""
MOST_PICKS = 15

LINES_OF_CANDIDATES = 4
"""What a path could become takes no more lines of a dialog."""


class Dialog(ModalScreen[Answer | None], Generic[Answer]):
    """It asks a question over the screen; its result is None where the person leaves it with
    escape.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave", show=False, priority=True),
        Binding("pageup", "page(-1)", "Page up", show=False, priority=True),
        Binding("pagedown", "page(1)", "Page down", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    Dialog {
        align: center middle;
        #box {
            width: 76;
            max-width: 100%;
            height: auto;
            max-height: 100%;
            padding: 0 1;
            border: round $accent;
            background: $surface;
        }
        .heading { text-style: bold; width: 1fr; height: auto; }
        .text { width: 1fr; height: auto; }
        .hint { width: 1fr; height: auto; color: $text-muted; }
        .problem { width: 1fr; height: auto; color: $error; }
        OptionList, OptionList:focus {
            width: 1fr; height: auto; border: none; padding: 0; margin: 1 0 0 0;
        }
        Input, Input:focus {
            width: 1fr;
            height: 1;
            border: none;
            padding: 0 1;
            background: $panel;
        }
    }
    """

    def action_page(self, by: int) -> None:
        """Scrolls what is too long for the screen."""
        box = self.query_one("#box")
        box.scroll_relative(y=by * max(1, box.size.height - 2), animate=False)

    def worded(self, text: str) -> str:
        """Returns a text to show, with keys in place of commands."""
        return visible_lines(cast("Navigator", self.app).in_keys(text))

    def action_leave(self) -> None:
        self.dismiss(None)


@dataclass(frozen=True)
class Choice(Generic[Answer]):
    """`key` is a letter; `text` says what the answer does."""

    key: str
    text: str
    answer: Answer


class ChoiceDialog(Dialog[Answer]):
    """The result is the answer of the chosen line; Enter takes the one at the cursor.

    The cursor is at first on the line that changes nothing, whose words are `stay`.
    """

    def __init__(
        self,
        heading: str,
        text: str,
        choices: Sequence[Choice[Answer]],
        *,
        stay: str = "leave all as it is",
    ) -> None:
        super().__init__()
        self._heading = heading
        self._text = text
        self._choices = list(choices)
        self._stay = stay

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="box", can_focus=False):
            yield Static(visible_lines(self._heading), classes="heading", markup=False)
            about = Static(self.worded(self._text), classes="text", markup=False)
            about.display = bool(self._text)
            yield about
            lines = [("esc", self._stay), *((choice.key, choice.text) for choice in self._choices)]
            yield OptionList(*[Option(_line(*line)) for line in lines], id="choices")
            yield Static("enter takes the line at the cursor", classes="hint", markup=False)

    def on_mount(self) -> None:
        options = self.query_one(OptionList)
        options.highlighted = 0
        options.focus()

    def reword(self, heading: str, text: str) -> None:
        """Asks in other words, since something went on while the dialog stands there."""
        self._heading, self._text = heading, text
        for place, words in ((".heading", heading), (".text", text)):
            for part in self.query(place).results(Static):
                part.update(self.worded(words))
                part.display = bool(words)

    def on_key(self, event: Key) -> None:
        if event.character == "n" and all(choice.key != "n" for choice in self._choices):
            event.stop()
            self.dismiss(None)
        for choice in self._choices:
            if event.character == choice.key:
                event.stop()
                self.dismiss(choice.answer)

    @on(OptionList.OptionSelected)
    def _chosen(self, message: OptionList.OptionSelected) -> None:
        answers = [None, *(choice.answer for choice in self._choices)]
        self.dismiss(answers[message.option_index])


def _line(key: str, text: str) -> Text:
    line = Text(f" {key:3}  ", style="bold")
    return line.append(visible_lines(text), style="not bold")


@dataclass(frozen=True)
class Entry:
    """This is a line of text to fill in, under its label; tab completes it where it has a `fit`."""

    label: str = ""
    value: str = ""
    placeholder: str = ""
    fit: Fit | None = None


class TextDialog(Dialog[Answer]):
    """It has lines of text to fill in; `check` gives the reason why they cannot be taken, or
    nothing.
    """

    DEFAULT_CSS = """
    TextDialog .label { height: 1; color: $text-muted; }
    """

    def __init__(
        self,
        heading: str,
        text: str,
        entries: Sequence[Entry],
        check: Callable[[tuple[str, ...]], str],
    ) -> None:
        super().__init__()
        self._heading = heading
        self._text = text
        self._entries = entries
        self._check = check

    @abstractmethod
    def answer(self, texts: tuple[str, ...]) -> Answer:
        """Returns the result."""

    def compose(self) -> ComposeResult:
        is_single = len(self._entries) == 1
        first = "" if is_single else "tab to the next, "
        if any(entry.fit for entry in self._entries):
            first = f"{self._key_to_complete()} completes the path, "
        hint = f"{first}enter takes it, escape leaves all as it is"
        with VerticalScroll(id="box", can_focus=False):
            yield Static(visible_lines(self._heading), classes="heading", markup=False)
            if self._text:
                yield Static(self.worded(self._text), classes="text", markup=False)
            for entry in self._entries:
                if entry.label:
                    yield Static(entry.label, classes="label", markup=False)
                field = CompletingInput(
                    entry.value, placeholder=entry.placeholder, select_on_focus=is_single
                )
                field.fit = entry.fit
                yield field
            yield Static("", id="candidates", classes="text", markup=False)
            yield Static("", id="problem", classes="problem", markup=False)
            yield Static(hint, classes="hint", markup=False)

    def on_mount(self) -> None:
        self.query(Input).first().focus()

    @on(Input.Changed)
    def _changed(self) -> None:
        texts = self._texts()
        self.query_one("#candidates", Static).update("")
        self._say(self._check(texts) if any(texts) else "")

    @on(CompletingInput.Listed)
    def _listed(self, message: CompletingInput.Listed) -> None:
        room = (self.query_one("#box").size.width - 2) * LINES_OF_CANDIDATES
        self.query_one("#candidates", Static).update(visible_lines(listing(message.texts, room)))

    @on(Input.Submitted)
    def _submitted(self) -> None:
        if problem := self._check(self._texts()):
            self._say(problem)
        else:
            self.dismiss(self.answer(self._texts()))

    def _key_to_complete(self) -> str:
        keys = cast("Navigator", self.app).config.keys
        return format_key(keys.get("complete", binding_of("complete").key).split(",")[0])

    def _texts(self) -> tuple[str, ...]:
        return tuple(field.value for field in self.query(Input))

    def _say(self, problem: str) -> None:
        self.query_one("#problem", Static).update(self.worded(problem))


class EntryDialog(TextDialog[str]):
    """The result is one line of text; `check` is called at each key, so it must not read files."""

    def __init__(
        self,
        heading: str,
        text: str = "",
        *,
        value: str = "",
        placeholder: str = "",
        check: Callable[[str], str] = lambda _text: "",
        fit: Fit | None = None,
    ) -> None:
        entry = Entry(value=value, placeholder=placeholder, fit=fit)
        super().__init__(heading, text, [entry], lambda texts: check(texts[0]))

    def answer(self, texts: tuple[str, ...]) -> str:
        return texts[0]


class EntriesDialog(TextDialog[tuple[str, ...]]):
    """The result are the texts of all entries."""

    def answer(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        return texts


@dataclass(frozen=True)
class Pick(Generic[Answer]):
    """This is one line of a list to choose from; its texts are raw."""

    text: str
    answer: Answer
    about: str = ""
    is_marked: bool = False

    def fits(self, words: Sequence[str]) -> bool:
        told = f"{self.text} {self.about}".casefold()
        return all(word in told for word in words)


Picks = tuple[Pick[Any], ...]


class PickList(VirtualList[Picks, Pick[Any]]):
    """It has no keys of its own: those of the field above it move its cursor."""

    HAS_HEADING = False
    CLICKS = 1
    can_focus = False

    def rows(self, shown: Picks) -> Picks:
        return shown

    def line_of(self, shown: Picks, row: Pick[Any], width: int) -> Line:
        longest = max(cell_len(visible(pick.text)) for pick in shown)
        room = max(1, min(longest, width // 2))
        mark = ("+" if self.is_ascii else "✓") if row.is_marked else " "
        return [
            (f"{mark} ", "accent"),
            (set_cell_size(visible(row.text), room), ""),
            (f"  {row.about}", "muted"),
        ]

    def if_empty(self, shown: Picks) -> list[Line]:
        del shown
        return [[("nothing fits", "warning")]]


class PickDialog(Dialog[Answer]):
    """The result is the answer of the line at the cursor; what is typed leaves the lines that have
    all the words.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Line before", show=False, priority=True),
        Binding("down", "move(1)", "Line after", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    PickDialog PickList { width: 1fr; margin: 1 0 0 0; }
    """

    def __init__(
        self,
        heading: str,
        picks: Sequence[Pick[Answer]],
        *,
        hint: str = "enter takes the line at the cursor",
        is_ascii: bool = False,
    ) -> None:
        super().__init__()
        self._heading = heading
        self._picks = tuple(picks)
        self._hint = hint
        self._is_ascii = is_ascii

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="box", can_focus=False):
            yield Static(visible_lines(self._heading), classes="heading", markup=False)
            yield Input(placeholder="type what its line has", id="entry")
            yield PickList(is_ascii=self._is_ascii, id="picks")
            yield Static(self._hint, classes="hint", markup=False)

    def on_mount(self) -> None:
        self.query_one(Input).focus()
        self._list.show(self._picks)

    def on_resize(self, event: Resize) -> None:
        """Gives the list what the rest of the box leaves, and no more than it needs."""
        room = max(1, event.size.height - AROUND_PICKS)
        self._list.styles.height = max(1, min(len(self._picks), room, MOST_PICKS))

    def action_move(self, by: int) -> None:
        self._list.action_move(by)

    def action_page(self, by: int) -> None:
        self._list.action_page(by)

    @on(Input.Changed)
    def _changed(self, message: Input.Changed) -> None:
        words = message.value.casefold().split()
        self._list.show(tuple(pick for pick in self._picks if pick.fits(words)))
        self._list.move_to(0)

    @on(Input.Submitted)
    @on(PickList.Chosen)
    def _chosen(self) -> None:
        if (pick := self._list.at_cursor) is not None:
            self.dismiss(pick.answer)

    @property
    def _list(self) -> PickList:
        return self.query_one(PickList)


def check_rounds(text: str) -> str:
    """Says why a text is no number of rounds to add."""
    if not text.strip().isdecimal() or not 1 <= int(text) <= 1_000_000:
        return "a whole number from 1 on"
    return ""
