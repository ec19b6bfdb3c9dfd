"""This screen shows what was changed in a run, and what two of its rounds differ in.

Settings stand beside results. The title says how many changes there are, which rounds are compared,
and how the run is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from halos_backend.store.run_dir import RunDir
from rich.cells import set_cell_size
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container

from halos_tui.actions import ScreenName
from halos_tui.changes.comparison import moved
from halos_tui.changes.entries import Entry, Fate
from halos_tui.changes.page import page_text, whole_text
from halos_tui.changes.reader import ChangesReader
from halos_tui.changes.view import NEWEST, ChangesQuery, ChangesView
from halos_tui.changes.wording import FATES, age
from halos_tui.feed import FeedFailed, Updated, in_background
from halos_tui.formatting import count, date_time, plural, visible, without_last_figure
from halos_tui.screens.asking import MUCH_TO_COPY, Asked, Filter, MakeText, Writing
from halos_tui.screens.base import HalosScreen, is_boxed
from halos_tui.search_term import SearchTerm, read_term
from halos_tui.text_layout import Page, num_cells
from halos_tui.text_layout import shown as shown_text
from halos_tui.widgets.ask_line import AskLine
from halos_tui.widgets.footer import Footer
from halos_tui.widgets.page_view import PageView
from halos_tui.widgets.panel import GAP, Line, Paced
from halos_tui.widgets.title_line import Title, TitleLine
from halos_tui.widgets.virtual_list import VirtualList

INTERVAL_S = 1.0
BESIDE = 120
"""From this width on history and page stand beside each other."""

WITH_DATE, WITH_WORDS = 60, 44
"""From these widths on there is room for the date beside the age, and for whole words about what
became of a change."""
NUM_LETTERS = 4
MOST_BY = 20
"""Who changed something takes at most so many cells."""
MOST_SHOWN = 500
"""A change shows at most so many characters; no list is wider."""
STYLES: dict[Fate, str] = {
    "holds": "",
    "replaced": "muted",
    "waits": "accent",
    "beyond": "warning",
    "unused": "muted",
    "refused": "bad",
    "told": "warning",
}
NOTHING = "nothing was changed; any two rounds can be compared all the same"


@dataclass(frozen=True)
class Listing:
    """The newest entry comes first. `now` is Unix seconds; `num_entries` counts without the
    filter.
    """

    entries: tuple[Entry, ...] = ()
    num_entries: int = 0
    now: float = 0.0


class ChangeList(VirtualList[Listing, Entry], Paced[Listing]):
    """The newest change comes first. A column that no entry needs is not there."""

    _fate_width = _by_width = 0

    def rows(self, shown: Listing) -> tuple[Entry, ...]:
        """Returns the entries, and measures their columns."""
        self._fate_width = max((len(FATES[entry.fate]) for entry in shown.entries), default=0)
        names = {shown_text(_by(entry), is_ascii=self.is_ascii) for entry in shown.entries}
        by = max((num_cells([(name, "")]) for name in names), default=0)
        self._by_width = min(MOST_BY, max(by, len("by"))) if by else 0
        return shown.entries

    def key(self, entry: Entry) -> int:
        return entry.number

    @property
    def number(self) -> int:
        """Returns the number of the entry at the cursor."""
        entry = self.at_cursor
        return NEWEST if entry is None else entry.number

    def heading(self, shown: Listing, width: int) -> Line:
        if not shown.entries:
            return [("nothing fits the filter" if shown.num_entries else NOTHING, "muted")]
        return self._line(width, ("when", "age", "round", ""), "change", "by", "muted")

    def line_of(self, shown: Listing, entry: Entry, width: int) -> Line:
        when, ago = date_time(entry.t), age(entry.t, shown.now)
        first = (when, ago, str(entry.from_round), FATES[entry.fate])
        what = visible(entry.what[:MOST_SHOWN])
        return self._line(width, first, what, _by(entry), STYLES[entry.fate])

    def _line(
        self, width: int, first: tuple[str, str, str, str], what: str, by: str, style: str
    ) -> Line:
        """Lays the columns out: the change has the room that the others leave."""
        when, ago, round, fate = first
        date = f"{when:16} " if width >= WITH_DATE else ""
        letters = min(self._fate_width, self._fate_width if width >= WITH_WORDS else NUM_LETTERS)
        state = f"{fate[:letters]:{letters}} " if letters else ""
        head = f"{date}{ago:>5} {round:>5} {state}"
        right = self._by_width if width >= WITH_WORDS else 0
        room = width - len(head) - (right + len(GAP) if right else 0)
        line = [(head, style), (self._in_cells(what, room), style)]
        return [*line, (GAP, ""), (self._in_cells(by, right), "muted")] if right else line

    def _in_cells(self, text: str, width: int) -> str:
        """Returns the text in exactly so many cells, with a mark where something is left out."""
        shown = shown_text(text, is_ascii=self.is_ascii)
        if num_cells([(shown, "")]) <= width:
            return set_cell_size(shown, width)
        kept = without_last_figure(set_cell_size(shown, max(0, width - 1)))
        return set_cell_size(kept.rstrip() + (">" if self.is_ascii else "…"), max(0, width))


def _by(entry: Entry) -> str:
    return visible(entry.by[:MOST_SHOWN]) or ("fork" if entry.verb == "fork" else "")


OF_ROUNDS = frozenset({"previous", "next", "older_previous", "older_next"})
"""These actions choose the rounds that are compared."""


class ChangesScreen(HalosScreen):
    """The screen is about one run; its page follows the cursor until a person chooses rounds by
    hand.
    """

    NAME: ClassVar[ScreenName] = "changes"
    BINDINGS: ClassVar[list[BindingType]]
    TITLES: ClassVar[Mapping[str, str]] = {"list": "changes", "page": "comparison"}
    BORDER_KEYS: ClassVar[Mapping[str, Sequence[str]]] = {
        "list": ("search",),
        "page": ("older_previous", "older_next"),
    }
    DEFAULT_CSS = """
    ChangesScreen {
        #panes { height: 1fr; layout: vertical; }
        #list { height: 30%; }
        #page { height: 1fr; }
        &.-beside #panes { layout: horizontal; }
        &.-beside #list { width: 40%; height: 1fr; }
        &.-beside #page { width: 1fr; }
        &.-page-only #list { display: none; }
    }
    """

    def __init__(self, run_dir: RunDir) -> None:
        super().__init__()
        self.run_dir = run_dir
        self.view: ChangesView | None = None
        self._reader = ChangesReader(run_dir, ChangesQuery())
        self.asked = Asked(ChangesQuery(), self._reader.ask)
        self._filter = Filter(
            self,
            read=read_term,
            term=lambda: self.asked.query.term,
            use=self._use_filter,
            leave=self.focus_main,
            hint="a setting's name, or /pattern",
        )
        self._writing = Writing(self, content=self.content, leave=self.focus_main)
        self._problem = ""
        self._is_zoomed = False

    def compose(self) -> ComposeResult:
        is_ascii = self.halos.options.is_ascii
        yield TitleLine(is_ascii=is_ascii, id="title")
        with Container(id="panes"):
            yield ChangeList(is_ascii=is_ascii, id="list")
            yield PageView(is_ascii=is_ascii, id="page")
        yield AskLine()
        yield Footer(is_ascii=is_ascii)

    def on_mount(self) -> None:
        self._list.focus()
        self.ask_for(replace(self.asked.query, is_ascii=self.halos.options.is_ascii))
        self._reader.in_keys = self.wording()
        self.asked.answered_by(self.follow(self._reader.read, interval_s=INTERVAL_S))

    def on_resize(self) -> None:
        self._arrange()

    def on_updated(self, message: Updated[ChangesView]) -> None:
        before, self.view, self._problem = self.view, message.view, ""
        view = message.view
        self._fit_list()
        number = self._list.number
        self._list.show(Listing(view.entries, view.num_entries, view.now))
        is_same = before is not None and _subject(before) == _subject(view)
        self._page.show_from(Page(view.lines), None if is_same else 0)
        if self._list.number != number:  # such as when the filter hides the change
            self.ask_for(replace(self.asked.query, number=self._list.number))
        self.say()

    def on_feed_failed(self, message: FeedFailed) -> None:
        """Says what is wrong for as long as it is so, beside the notice that every screen gives."""
        self._problem = message.problem
        self.say()

    @on(VirtualList.Moved)
    def _follow_cursor(self) -> None:
        """Shows the change that a person went to, with the rounds around it."""
        if self._list.number != self.asked.query.number:
            self.ask_for(replace(self.asked.query, number=self._list.number, rounds=None))
        self.say()

    def why_not(self, action: str) -> str:
        if self.view is None or self.view.rounds is not None:
            return ""
        return "no round has begun yet" if action in OF_ROUNDS else ""

    def action_search(self) -> None:
        self._filter.ask()

    def action_write(self) -> None:
        self._writing.ask()

    def action_previous(self) -> None:
        """Compares with the round before the newer one."""
        self._move(newer=-1)

    def action_next(self) -> None:
        self._move(newer=1)

    def action_older_previous(self) -> None:
        """Compares with the round before the older one."""
        self._move(older=-1)

    def action_older_next(self) -> None:
        self._move(older=1)

    def action_compare(self) -> None:
        """Shows the page of the change at the cursor alone, or both panes again."""
        self._is_zoomed = not self._is_zoomed
        self._arrange()

    def action_read_on(self) -> None:
        self._page.action_page(1)

    def action_read_back(self) -> None:
        self._page.action_page(-1)

    def action_copy(self) -> None:
        """Copies the page to the clipboard by OSC 52."""
        if self.view is None:
            self.notify("there is nothing to copy yet", severity="warning", markup=False)
        else:
            self.run_worker(self._copy(self.view), group="copy", exclusive=True)

    def action_back(self) -> None:
        """Leaves the question, the page, the chosen rounds, the filter; then goes to the screen
        before.
        """
        if self.query_one(AskLine).display:
            self._filter.close_bar()
        elif self._is_zoomed:
            self.action_compare()
        elif self.asked.query.rounds is not None:
            self.ask_for(replace(self.asked.query, rounds=None))
        elif self.asked.query.term is not None:
            self.ask_for(replace(self.asked.query, term=None))
        else:
            super().action_back()

    def ask_for(self, query: ChangesQuery) -> None:
        """Shows something else."""
        self.asked.ask(query)
        self.say()

    def _use_filter(self, term: SearchTerm | None) -> None:
        self.ask_for(replace(self.asked.query, term=term))

    def content(self) -> MakeText | None:
        """Returns what writes the page and the history."""
        view = self.view
        return None if view is None else lambda _path: whole_text(view, self.run_dir.name)

    async def _copy(self, view: ChangesView) -> None:
        text = await in_background(partial(page_text, view))
        self.app.copy_to_clipboard(text)
        much = f"; many terminals take less than that, {self.key('write')} writes a file"
        more = much if len(text) > MUCH_TO_COPY else ""
        self.notify(f"copied {plural(len(text), 'character')}{more}", markup=False)

    def _move(self, *, older: int = 0, newer: int = 0) -> None:
        """Chooses rounds by hand."""
        if self.view is None or self.view.rounds is None:
            return
        rounds = self.asked.query.rounds or self.view.rounds
        self.ask_for(
            replace(
                self.asked.query,
                rounds=moved(rounds, older=older, newer=newer, last=self.view.last),
            )
        )

    def _arrange(self) -> None:
        """Makes room for the pane that the person reads."""
        self.set_class(self.size.width >= BESIDE and not self._is_zoomed, "-beside")
        self.set_class(self._is_zoomed, "-page-only")
        self._fit_list()
        self.call_after_refresh(self._settle)

    def _fit_list(self) -> None:
        """Gives the list above the page no more lines than it has entries."""
        border = 2 if is_boxed(self.size) else 1
        num_lines = 1 + border + (0 if self.view is None else self.view.num_entries)
        self._list.styles.max_height = None if self.has_class("-beside") else num_lines

    def _settle(self) -> None:
        """Draws once the panes have their sizes."""
        if not self.query_one(AskLine).display:
            self.focus_main()
        width = max(1, self._page.size.width)
        if width != self.asked.query.width:
            self.ask_for(replace(self.asked.query, width=width))

    def focus_main(self) -> None:
        self.set_focus(self._list if self._list.display else self._page)

    def say(self) -> None:
        title = title_of(
            self.run_dir,
            self.view,
            self.asked.query,
            place=self._list.cursor,
            problem=self._problem,
        )
        self.query_one(TitleLine).show(title)
        self.mind_actions()

    @property
    def _list(self) -> ChangeList:
        return self.query_one(ChangeList)

    @property
    def _page(self) -> PageView:
        return self.query_one(PageView)


def _subject(view: ChangesView) -> object:
    """Returns what the page is about: another page begins at its top."""
    return view.rounds, None if view.about is None else view.about.number


def title_of(
    run_dir: RunDir, view: ChangesView | None, query: ChangesQuery, *, place: int, problem: str
) -> Title:
    """Returns the title; `place` is where the cursor is."""
    about = [(run_dir.name, "title")]
    problem = problem.removeprefix(f"{visible(str(run_dir.path))}/")
    if view is None:
        return Title((*about, ("" if problem else "  reading ...", "muted")), problem=problem)
    about.append((f"  {_history(view, place)}", "accent" if view.entries else "muted"))
    if query.term is not None:
        about.append((f"  filter {query.term.typed}", "warning"))
    if query.rounds is not None:
        about.append(("  rounds chosen by hand", "warning"))
    of = f" of {view.planned}" if view.planned else ""
    state = f"{view.status}, round {view.num_rounds}{of}"
    return Title(tuple(about), ((state, "muted"),), problem)


def _history(view: ChangesView, place: int) -> str:
    if view.entries:
        return f"{count(place + 1)} of {plural(len(view.entries), 'change')}"
    return "nothing fits the filter" if view.num_entries else "nothing was changed"
