"""This screen shows any log of a run, as far as it is in sight: it follows, searches, copies.

Its title says which log it is, where in it the cursor is, and what goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from halos_backend.errors import UsageError
from halos_backend.events import Stage
from halos_backend.store.run_dir import RunDir
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container

from halos_tui.actions import ScreenName
from halos_tui.feed import FeedFailed, Updated
from halos_tui.formatting import percent, size
from halos_tui.logs.file import Direction
from halos_tui.logs.log_view import LogRows, SourceList
from halos_tui.logs.reader import LogQuery, LogReader, LogView
from halos_tui.logs.rows import END, LogRow, RowStyle
from halos_tui.logs.search_actions import (
    Copied,
    FindProgress,
    FindProgressed,
    LogSearch,
    copy_lines,
)
from halos_tui.screens.asking import Asked
from halos_tui.screens.base import HalosScreen
from halos_tui.search_term import read_term
from halos_tui.widgets.ask_line import AskLine, Question
from halos_tui.widgets.footer import Footer
from halos_tui.widgets.title_line import Title, TitleLine

NOTHING_PRINTED = "nothing was printed; what the stage did stands on the run screen"
INTERVAL_S = 0.35
"""A whole screen of new lines that often is what a slow line takes."""


OF_LINES = frozenset({"copy", "choose_lines", "top", "bottom"})


class LogsScreen(HalosScreen):
    """The screen is about one run; it begins with the log that is written now, or was last."""

    NAME: ClassVar[ScreenName] = "logs"
    BINDINGS: ClassVar[list[BindingType]]
    TITLES: ClassVar[Mapping[str, str]] = {"rows": "log"}
    BORDER_KEYS: ClassVar[Mapping[str, Sequence[str]]] = {"rows": ("follow", "wrap", "choose_log")}
    DEFAULT_CSS = """
    LogsScreen {
        #panes { height: 1fr; }
        #rows { height: 1fr; }
        #sources { height: 1fr; display: none; }
    }
    """

    def __init__(self, run_dir: RunDir, round: int | None = None, stage: Stage | None = None):
        super().__init__()
        self.run_dir = run_dir
        self.view: LogView | None = None
        query = LogQuery(round=round, stage=stage)
        self._reader = LogReader(run_dir, query)
        self.asked = Asked(query, self._reader.ask)
        self._search = LogSearch(self)
        self._searching = Question(
            "search", "words, or /pattern", typed=self._typed, answered=self._answered
        )
        self._problem = ""

    def compose(self) -> ComposeResult:
        is_ascii = self.halos.options.is_ascii
        yield TitleLine(is_ascii=is_ascii, id="title")
        with Container(id="panes"):
            yield LogRows(is_ascii=is_ascii, id="rows")
            yield SourceList(is_ascii=is_ascii, id="sources")
        yield AskLine()
        yield Footer(is_ascii=self.halos.options.is_ascii)

    def on_mount(self) -> None:
        self.set_focus(self._rows)
        self._restyle(replace(self._query.style, is_ascii=self.halos.options.is_ascii))
        self.say()
        self.asked.answered_by(self.follow(self._reader.read, interval_s=INTERVAL_S))

    def on_unmount(self) -> None:
        self._search.stop()

    def on_resize(self) -> None:
        self.call_after_refresh(self._fit)

    def on_updated(self, message: Updated[LogView]) -> None:
        before, self.view, self._problem = self.view, message.view, ""
        view = message.view
        # the cursor may have left the end before the screen gets the message of it
        if _is_elsewhere(before, view) or (self._query.follows and self._rows.is_at_end):
            self._rows.jump(view.window)
        elif before is not None and view.window is not before.window:
            self._rows.refill(view.window)
        moved_by = view.left - view.query.style.left
        if moved_by and (view.query.jump, view.query.path) == (self._query.jump, self._query.path):
            self._restyle(
                replace(self._query.style, left=max(0, self._query.style.left + moved_by))
            )
        self.say()

    def on_feed_failed(self, message: FeedFailed) -> None:
        """Says what is wrong for as long as it is so, beside the notice that every screen gives."""
        self._problem = message.problem
        self.say()

    @on(LogRows.Turned)
    def _moved(self, message: LogRows.Turned) -> None:
        row = self._rows.at_cursor
        if message.up and self._query.follows and not self._rows.is_at_end:
            self.asked.query = replace(self._query, follows=False)
            message.needs_rows = True
        if message.needs_rows and row is not None:
            self.asked.ask(replace(self._query, place=self._place()))
        self.say()

    @on(LogRows.Sideways)
    def _moved_sideways(self, message: LogRows.Sideways) -> None:
        if not self._query.style.wraps:
            self._restyle(
                replace(self._query.style, left=max(0, self._query.style.left + message.by))
            )

    @on(SourceList.Chosen, "#sources")
    def _source_chosen(self) -> None:
        source = self._sources.at_cursor
        self._close_list()
        if source is not None:
            self._open(source.path)

    def why_not(self, action: str) -> str:
        is_empty = self.view is not None and not self.view.status.num_bytes
        return "nothing is written yet" if is_empty and action in OF_LINES else ""

    def action_previous(self) -> None:
        self._step(-1)

    def action_next(self) -> None:
        self._step(1)

    def action_choose_log(self) -> None:
        """Shows the list of logs instead of the log."""
        if self._sources.display:
            self._close_list()
        elif self.view is not None:
            self._sources.display, self._rows.display = True, False
            self._sources.offer(self.view.sources, self.view.source)
            self.set_focus(self._sources)

    def action_follow(self) -> None:
        follows, jump = not self._query.follows, self._query.jump + 1
        self.asked.ask(replace(self._query, follows=follows, place=self._place(), jump=jump))
        self.say()

    def action_top(self) -> None:
        self.go_to(0)

    def action_bottom(self) -> None:
        self.asked.ask(replace(self._query, place=END, jump=self._query.jump + 1, to_hit=False))

    def action_search(self) -> None:
        term = self._query.style.term
        before = "" if term is None else term.typed
        self._bar.ask(self._searching, text=before)

    def action_next_hit(self) -> None:
        self._find("forward")

    def action_previous_hit(self) -> None:
        self._find("backward")

    def action_wrap(self) -> None:
        self._restyle(replace(self._query.style, wraps=not self._query.style.wraps, left=0))

    def action_choose_lines(self) -> None:
        self._rows.choose_lines()
        self.say()

    def action_copy(self) -> None:
        """Copies the line at the cursor or the chosen lines, as they are shown, by OSC 52."""
        lines, file = self._rows.chosen_lines(), None if self.view is None else self.view.file
        if lines is not None and file is not None:
            self.run_worker(partial(copy_lines, self, file, lines), thread=True)

    def action_back(self) -> None:
        """Leaves the question, the search, the list, the choice; then goes to the screen before."""
        if self._bar.display:
            self._close_bar()
        elif self._search.progress is not None:
            self._search.stop()
            self.say()
        elif self._sources.display:
            self._close_list()
        elif self._rows.chosen_from is not None:
            self.action_choose_lines()
        elif self._query.style.term is not None:
            self._restyle(replace(self._query.style, term=None))
        else:
            super().action_back()

    def _typed(self, text: str) -> None:
        """Says at once only that a text is no pattern."""
        try:
            read_term(text)
            self._bar.refuse("")
        except UsageError as error:
            self._bar.refuse(str(error))

    def _answered(self, text: str) -> None:
        try:
            term = read_term(text)
        except UsageError as error:
            self._bar.refuse(str(error))
            return
        self._close_bar()
        self._restyle(replace(self._query.style, term=term))
        self._find("forward", from_here=True)

    def _find(self, direction: Direction, *, from_here: bool = False) -> None:
        """Searches for the term from the cursor on, or asks for one."""
        term, file = self._query.style.term, None if self.view is None else self.view.file
        row = self._rows.at_cursor
        if term is None and not from_here:
            self.action_search()
        if term is None or file is None or row is None:
            return
        self._search.begin(file, row, term, direction, from_here=from_here)
        self.say()

    @on(FindProgressed)
    def _found(self, message: FindProgressed) -> None:
        line = self._search.take(message)
        if line is not None:
            self.go_to(line, to_hit=True)
        self.say()

    @on(Copied)
    def _copied(self, message: Copied) -> None:
        self.app.copy_to_clipboard(message.text)
        self._rows.chosen_from = None
        self._rows.repaint()
        self.notify(message.said, markup=False)
        self.say()

    def _step(self, by: int) -> None:
        """Goes to the log after this one in the list."""
        view = self.view
        if view is None or not view.sources:
            return
        paths = [source.path for source in view.sources]
        shown = None if view.source is None else view.source.path
        path = self._query.path if self._query.path in paths else shown
        now = paths.index(path) if path in paths else 0
        self._open(view.sources[max(0, min(now + by, len(view.sources) - 1))].path)

    def _open(self, path: Path) -> None:
        """Opens a log at its end, following."""
        self._search.stop()
        self._rows.chosen_from = None
        style = replace(self._query.style, left=0)
        self.asked.ask(
            replace(self._query, path=path, place=END, follows=True, style=style, to_hit=False)
        )

    def go_to(self, line: int, *, to_hit: bool = False) -> None:
        place, jump = (line, 0), self._query.jump + 1
        self.asked.ask(replace(self._query, place=place, jump=jump, follows=False, to_hit=to_hit))

    def _place(self) -> tuple[int, int]:
        """Returns the place of the cursor's row; where a jump is not answered yet, the place it
        goes to.
        """
        if self.view is not None and self.view.query.jump != self._query.jump:
            return self._query.place
        row = self._rows.at_cursor
        return END if row is None else row.place

    def _restyle(self, style: RowStyle) -> None:
        self.asked.ask(replace(self._query, place=self._place(), style=style))

    def _fit(self) -> None:
        width, height = self._rows.size
        if width and height:
            style = replace(self._query.style, width=width)
            self.asked.ask(replace(self._query, place=self._place(), height=height, style=style))

    def _close_bar(self) -> None:
        self._bar.close()
        self.set_focus(self._rows)

    def _close_list(self) -> None:
        self._sources.display, self._rows.display = False, True
        self.set_focus(self._rows)

    def say(self) -> None:
        self._rows.say_why_empty(_why_empty(self.view))
        title = title_of(
            self.run_dir,
            self._query,
            self.view,
            row=self._rows.at_cursor,
            progress=self._search.progress,
            problem=self._problem,
            is_choosing=self._rows.chosen_from is not None,
            key=self.key,
        )
        self.query_one(TitleLine).show(title)
        self.mind_actions()

    @property
    def _query(self) -> LogQuery:
        return self.asked.query

    @property
    def _bar(self) -> AskLine:
        return self.query_one(AskLine)

    @property
    def _rows(self) -> LogRows:
        return self.query_one(LogRows)

    @property
    def _sources(self) -> SourceList:
        return self.query_one(SourceList)


def _is_elsewhere(before: LogView | None, view: LogView) -> bool:
    """Says whether the cursor goes where the window is about."""
    return before is None or (
        before.source != view.source
        or before.status.generation != view.status.generation
        or before.query.jump != view.query.jump
    )


def title_of(
    run_dir: RunDir,
    query: LogQuery,
    view: LogView | None,
    *,
    row: LogRow | None,
    progress: FindProgress | None,
    problem: str,
    is_choosing: bool,
    key: Callable[[str], str],
) -> Title:
    """Returns the title; `row` is the one at the cursor, `key` names that of an action."""
    about = [(run_dir.name, "title"), (f"  {_which(query, view)}", "accent")]
    state: list[tuple[str, str]] = []
    if progress is not None:
        stop = f"{key('back')} stops"
        state.append((f"searching {percent(progress.fraction)}, {stop}", "warning"))
    if is_choosing:
        state.append((f"lines chosen to here, {key('copy')} copies", "warning"))
    state.append(("following", "good") if query.follows else ("not following", "muted"))
    if view is not None and view.num_new_bytes:
        state.append((f"{size(view.num_new_bytes)} new below", "accent"))
    if view is not None and view.status.num_bytes:
        place = row.end / view.status.num_bytes if row is not None else 0.0
        state.append((f"{percent(place)} of {size(view.status.num_bytes)}", "muted"))
    if query.style.term is not None:
        state.append((query.style.term.typed, "accent"))
    return Title(tuple(about), tuple(state), problem or _problem(view))


def _which(query: LogQuery, view: LogView | None) -> str:
    if view is None:
        return "reading ..."
    if view.source is not None:
        return view.source.title
    return f"{query.stage or 'a stage'}{f' of round {query.round}' if query.round else ''}"


def _problem(view: LogView | None) -> str:
    """Says what is out of the ordinary with the file."""
    if view is None:
        return ""
    if view.source is None:
        return "it has not started yet; its log appears here once it has"
    status = view.status
    match status.condition:
        case "absent":
            return ""
        case "unreadable":
            return status.problem
        case "deleted":
            return "the file is deleted; this is what it had"
        case "present":
            if status.restart is not None and status.generation > 1:
                return f"the file was {status.restart} while it was shown: from here on it is new"
            return ""


def _why_empty(view: LogView | None) -> str:
    """Says why the file has no rows."""
    if view is None or view.source is None or view.status.num_bytes:
        return ""
    match view.status.condition:
        case "absent":
            return "nothing is written yet"
        case "present":
            return "nothing was printed; what the stage did stands on the run screen"
        case _:
            return ""
