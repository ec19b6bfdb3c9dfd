"""This widget is the settings form: its rows, the one field in which a person types, the details.

What the settings are and whether they are right is known by `settings.form`, which is called in a
thread. The details say what there is to know of the setting at the cursor, and of all edits
together.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from halos_backend.config.load import PATH_KEYS, PROGRAM_KEYS
from halos_backend.findings import with_level
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Container
from textual.css.query import NoMatches
from textual.events import Click
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Input

from halos_tui.feed import in_background
from halos_tui.formatting import plural, visible
from halos_tui.settings.form import FormView, SettingsForm
from halos_tui.settings.rows import Row
from halos_tui.settings.rows_list import LEVEL_STYLES, SettingsRows
from halos_tui.terminal.key_order import keys_held
from halos_tui.widgets.completing_input import (
    CompletingInput,
    Fit,
    functions_like,
    listing,
    paths_like,
    words_like,
)
from halos_tui.widgets.panel import Line, Panel

BESIDE = 110
"""From this width on the details stand beside the rows, not below."""

ROOMY = 12
"""From so many lines on there is room for long explanations."""


class SettingsEditor(Container):
    """Edits a form. `more` are lines that its owner adds below what follows from the edits."""

    DEFAULT_CSS = """
    SettingsEditor {
        height: 1fr;
        layout: vertical;
        layers: below above;
        SettingsRows { height: 1fr; }
        SettingsDetails { height: 9; }
        #value {
            layer: above;
            position: absolute;
            height: 1;
            border: none;
            padding: 0;
            background: $panel;
            display: none;
        }
        #find { height: 1; border: none; padding: 0; display: none; }
        &.-beside {
            layout: horizontal;
            SettingsRows { width: 3fr; height: 100%; }
            SettingsDetails {
                width: 2fr;
                height: 100%;
            }
        }
        &.-high SettingsDetails { height: 14; }
        &.-low SettingsDetails { height: 4; }
        &.-flat SettingsDetails { display: none; }
    }
    """

    class Changed(Message):
        """This message says that the form was checked anew: `view` is what is shown now."""

        def __init__(self, view: FormView) -> None:
            super().__init__()
            self.view = view

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self._is_ascii = is_ascii
        self._form: SettingsForm | None = None
        self._more: tuple[tuple[str, str], ...] = ()
        self._before: str | None = None
        self._candidates: tuple[str, ...] | None = None
        self.words: Callable[[str], str] = str
        """It writes the commands of a finding as the keys of the screen."""

    def compose(self) -> ComposeResult:
        yield SettingsRows(is_ascii=self._is_ascii, id="rows")
        yield SettingsDetails(is_ascii=self._is_ascii, id="details")
        yield CompletingInput(id="value")

    def on_resize(self) -> None:
        width, height = self.size
        self.set_class(width >= BESIDE, "-beside")
        self.set_class(width < BESIDE and height >= 36, "-high")
        self.set_class(width < BESIDE and height < 18, "-low")
        self.set_class(width < BESIDE and height < 9, "-flat")
        self.call_after_refresh(self._place_field)

    @property
    def rows(self) -> SettingsRows:
        return self.query_one(SettingsRows)

    @property
    def view(self) -> FormView | None:
        return self.rows.shown

    @property
    def is_editing(self) -> bool:
        return bool(self._field.display)

    @property
    def is_completing(self) -> bool:
        """Says whether the value in the field can be completed."""
        return self.is_editing and self._field.fit is not None

    def set_form(self, form: SettingsForm) -> None:
        """Shows another form, or the same after something else changed."""
        self._form = form
        self.check()

    def set_more(self, more: Sequence[tuple[str, str]]) -> None:
        """Shows lines with the names of their styles, below the form's own."""
        self._more = tuple(more)
        self._show_details()

    @work(exclusive=True, group="check")
    async def check(self) -> None:
        """Has the form checked, and shows it; later keys are about what is shown then."""
        with keys_held(self.app):
            await self._check()

    def search(self, text: str) -> None:
        self.rows.search(text)

    def edit(self) -> None:
        """Opens the field at the cursor; a setting with two values only takes the other."""
        if (row := self._editable()) is None:
            return
        if len(row.choices) == 2:
            self.choose(1)
            return
        self._before = self._form.edits.get(row.path) if self._form else None
        field = self._field
        field.suggester = (
            SuggestFromList(row.choices, case_sensitive=False) if row.choices else None
        )
        field.fit = _fit_of(row, self._form.directories) if self._form else None
        field.placeholder = row.takes if not row.default else f"default: {row.default}"
        with field.prevent(Input.Changed):
            field.value = "" if row.is_hidden or row.makes_entry else row.value
        field.cursor_position = len(field.value)
        field.display = True
        self._place_field()
        field.focus()

    def complete(self) -> None:
        self._field.action_complete()

    def choose(self, by: int) -> None:
        """Takes the value after, or before, of those that a setting takes."""
        row = self._editable()
        if row is not None and row.choices and self._form is not None:
            place = row.choices.index(row.value) if row.value in row.choices else -1
            self._form.edit(row.path, row.choices[(place + by) % len(row.choices)])
            self.check()

    def reset(self) -> bool:
        """Takes back the edits of the setting at the cursor; returns whether there were any."""
        if (row := self.rows.row) is None or self._form is None:
            return False
        path = row.table if row.path not in self._form.edits and row.is_required else row.path
        is_reset = self._form.reset(path)
        if is_reset:
            self.check()
        return is_reset

    def cancel(self) -> None:
        """Closes the field; the value is as it was before."""
        row = self.rows.row
        if row is not None and self._form is not None and not row.makes_entry:
            if self._before is None:
                self._form.reset(row.path)
            else:
                self._form.edit(row.path, self._before)
        self._close()

    @on(Input.Changed, "#value")
    def _typed(self, message: Input.Changed) -> None:
        message.stop()
        self._candidates = None
        row = self.rows.row
        if self.is_editing and row is not None and self._form is not None and not row.makes_entry:
            self._form.edit(row.path, message.value)
            self._check_typed()

    @on(CompletingInput.Listed)
    def _listed(self, message: CompletingInput.Listed) -> None:
        message.stop()
        self._candidates = message.texts
        self._show_details()

    @on(Input.Submitted, "#value")
    def _entered(self, message: Input.Submitted) -> None:
        message.stop()
        row, name = self.rows.row, message.value.strip()
        if row is not None and row.makes_entry and name and self._form is not None:
            self.rows.go_to(self._form.add_entry(row.path, name))
        self._close()

    @on(SettingsRows.Moved)
    def _moved(self, message: SettingsRows.Moved) -> None:
        message.stop()
        if self.is_editing:
            self._close()
        self._show_details()

    def on_click(self, event: Click) -> None:
        """Closes the field where the list has taken its keys."""
        if self.is_editing and event.widget is self.rows:
            self._close()

    def _editable(self) -> Row | None:
        row = self.rows.row
        if row is not None and row.fixed:
            self.notify(f"{row.path}: {row.fixed}", severity="warning", markup=False)
            return None
        return row

    def _close(self) -> None:
        self._field.display = False
        self._candidates = None
        self.rows.focus()
        self.check()

    def _place_field(self) -> None:
        if not self.is_editing:
            return
        place = self.rows.value_place()
        if place is None:
            self._close()
            return
        x, y = place
        frame = self.rows.gutter
        self._field.styles.offset = (x + frame.left, y + frame.top)
        self._field.styles.width = max(4, self.rows.size.width - x)

    def _show_details(self) -> None:
        try:
            details = self.query_one(SettingsDetails)
        except NoMatches:
            return
        if (view := self.view) is not None:
            details.show(Details(view, self.rows.row, self._more, self.words, self._candidates))

    @property
    def _field(self) -> CompletingInput:
        return self.query_one("#value", CompletingInput)

    @work(exclusive=True, group="check")
    async def _check_typed(self) -> None:
        """Holds no keys: they are more of the same text."""
        await self._check()

    async def _check(self) -> None:
        if self._form is None:
            return
        view = await in_background(self._form.copy().view)
        if self.is_editing and self.rows.row is not None:
            view = replace(view, typed=self.rows.row.path)
        self.rows.show(view)
        self._show_details()
        self._place_field()
        self.post_message(self.Changed(view))


@dataclass(frozen=True)
class Details:
    """Holds the form, the row at the cursor, and lines of the form's owner with their styles.

    `words` writes commands as keys; `candidates` are what the text in the field could become,
    where a person asked for them.
    """

    view: FormView
    row: Row | None
    more: tuple[tuple[str, str], ...] = ()
    words: Callable[[str], str] = str
    candidates: tuple[str, ...] | None = None


class SettingsDetails(Panel[Details]):
    """The most important comes first: what does not fit is not shown."""

    def lines(self, shown: Details, width: int, height: int) -> Iterator[Line]:
        inner = max(10, width - 1)
        most = 2 if height < ROOMY else height
        if shown.candidates is not None:
            listed = listing(shown.candidates, inner * max(1, height - 4))
            yield from ([(f" {line}", "accent")] for line in _wrapped(listed, inner))
        for text, style in _about_row(shown):
            wrapped = _wrapped(text, inner)
            yield from ([(f" {line}", style)] for line in wrapped[:most])
        for text, style in _about_all(shown):
            yield from ([(f" {line}", style)] for line in _wrapped(text, inner))


def _fit_of(row: Row, directories: Sequence[Path]) -> Fit | None:
    """Returns what completes a value: paths, functions or words; None for any other."""
    if row.path == "label.judge.function":
        return functions_like(directories)
    if row.path in (*PATH_KEYS, *PROGRAM_KEYS):
        return paths_like(directories)
    return words_like(row.choices) if row.choices else None


def _about_row(shown: Details) -> Iterator[tuple[str, str]]:
    row = shown.row
    if row is None:
        return
    problem = shown.view.problems.get(row.path)
    if problem:
        yield f"! {row.path}: {problem}", "bad"
    yield f"{row.path}: {row.help}", ""
    if row.fixed:
        yield row.fixed, "muted"
        return
    for finding in shown.view.found.get(row.path, ()):
        yield f"! {shown.words(with_level(finding))}", LEVEL_STYLES[finding.level]
    if note := shown.view.notes.get(row.path):
        can_go_back = row.path in shown.view.edited or shown.view.from_round is not None
        yield f"{note}{': backspace takes that back' if can_go_back else ''}", "accent"
    if not problem:
        default = f"default {row.default}; " if row.default else ""
        yield f"{default}takes {row.takes}", "muted"


def _about_all(shown: Details) -> Iterator[tuple[str, str]]:
    view, row = shown.view, shown.row
    here = None if row is None else row.path
    others = [(path, reason) for path, reason in view.problems.items() if path != here]
    for path, reason in others[:3]:
        yield (f"! {path}: {reason}" if path else f"! {reason}"), "bad"
    if len(others) > 3:
        yield f"! and {plural(len(others) - 3, 'more problem')}", "bad"
    for sentence in view.checked.consequences:
        yield f"> {sentence}", "accent"
    yield from shown.more
    at_cursor = view.found.get(here or "", ())
    for finding in view.findings:
        if finding not in at_cursor:
            yield shown.words(with_level(finding)), LEVEL_STYLES[finding.level]


def _wrapped(text: str, width: int) -> list[str]:
    return [
        line
        for part in text.split("\n")
        for line in textwrap.wrap(
            visible(part), width, subsequent_indent="  ", break_on_hyphens=False
        )
        or [""]
    ]
