"""What the model says: all completions of a run, round by round, and one of them as a page.

One thread lists, another decodes what is in sight; this draws what arrives.
"""

from __future__ import annotations

from typing import Any, ClassVar

from halos_backend.store.run_dir import RunDir
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container

from halos_tui.actions import ScreenName
from halos_tui.completions.looks import CompletionLooks
from halos_tui.completions.reader import CompletionsReader
from halos_tui.completions.title import title_of
from halos_tui.completions.views import (
    ALL_ROUNDS,
    NEWEST,
    ONLY,
    ORDERS,
    ListView,
    Look,
    PageKind,
    Seen,
    Wish,
)
from halos_tui.feed import Feed
from halos_tui.messages import Updated
from halos_tui.screens.filtering import Filtering
from halos_tui.screens.taking_out import TakingOut
from halos_tui.widgets.ask_line import AskLine
from halos_tui.widgets.completion_list import CompletionList
from halos_tui.widgets.footer import Footer
from halos_tui.widgets.page_view import PageView
from halos_tui.widgets.title_line import TitleLine
from halos_tui.widgets.virtual_list import VirtualList

BESIDE, BESIDE_PAIR = 110, 170
"""From this width on list and page stand beside each other; while two completions are compared."""
LOW = 10
"""Below this height there is room for one of both."""


class CompletionsScreen(Filtering, TakingOut):
    """Of one run; begins at `round`, or at the newest with completions."""

    NAME: ClassVar[ScreenName] = "completions"
    BINDINGS: ClassVar[list[BindingType]]
    DEFAULT_CSS = """
    CompletionsScreen {
        #panes { height: 1fr; layout: vertical; }
        #list { height: 38%; }
        #page { height: 1fr; }
        &.-beside #panes { layout: horizontal; }
        &.-beside #list { width: 45%; height: 1fr; }
        &.-beside #page { width: 1fr; margin-left: 1; }
        &.-page-only #list { display: none; }
        &.-list-only #page { display: none; }
        &.-list-only #list { height: 1fr; }
    }
    """

    def __init__(self, run_dir: RunDir, round: int | None = None) -> None:
        super().__init__()
        self.run_dir = run_dir
        self.view = ListView()
        self.seen: Seen | None = None
        self.kind: PageKind = "completion"
        self._wish = Wish(round=NEWEST if round is None else round)
        self._reader = CompletionsReader(run_dir, self._wish)
        self._looks: CompletionLooks | None = None
        self._sights: Feed[Seen] | None = None
        self._is_zoomed = False

    def compose(self) -> ComposeResult:
        is_ascii = self.halos.options.is_ascii
        yield TitleLine(is_ascii=is_ascii, id="title")
        with Container(id="panes"):
            yield CompletionList(is_ascii=is_ascii, id="list")
            yield PageView(is_ascii=is_ascii, id="page")
        yield AskLine()
        yield Footer(is_ascii=self.halos.options.is_ascii)

    def on_mount(self) -> None:
        self._list.look_rows_up(self._reader.index.row)
        self._list.focus()
        self.say()
        self._looks = CompletionLooks(self._reader.index, is_ascii=self.halos.options.is_ascii)
        self._feed = self.follow(self._reader.read)
        self._sights = self.follow(self._looks.read)

    def on_unmount(self) -> None:
        self._reader.close()
        if self._looks is not None:
            self._looks.close()

    def on_resize(self) -> None:
        self._arrange()

    def on_updated(self, message: Updated[Any]) -> None:
        match message.view:
            case ListView():
                self._take_list(message.view)
            case Seen():
                self._take_seen(message.view)

    @on(VirtualList.Moved)
    def _look(self) -> None:
        """Ask for what is in sight now."""
        listed = self._list
        look = Look(
            keys=listed.keys_in_sight() if listed.display else (),
            cursor=listed.key,
            kind=self.kind,
            width=max(1, self._page.size.width),
            term=self._wish.term,
            generation=self.view.generation,
        )
        if self._looks is not None and self._sights is not None:
            self._looks.ask(look)
            self._sights.hurry()
        self.say()

    def action_previous(self) -> None:
        """The round before; from all rounds the newest."""
        self._turn(-1)

    def action_next(self) -> None:
        self._turn(1)

    def action_all_rounds(self) -> None:
        self.ask_for(round=NEWEST if self._wish.round == ALL_ROUNDS else ALL_ROUNDS)

    def action_sort(self) -> None:
        self.ask_for(order=ORDERS[(ORDERS.index(self._wish.order) + 1) % len(ORDERS)])

    def action_reverse(self) -> None:
        self.ask_for(ascending=not self._wish.ascending)

    def action_only(self) -> None:
        self.ask_for(only=ONLY[(ONLY.index(self._wish.only) + 1) % len(ONLY)])

    def action_group(self) -> None:
        self._show_kind("completion" if self.kind == "group" else "group")

    def action_differences(self) -> None:
        self._show_kind("completion" if self.kind == "pair" else "pair")

    def action_zoom(self) -> None:
        self._is_zoomed = not self._is_zoomed
        self._arrange()

    def action_next_completion(self) -> None:
        self._list.action_move(1)

    def action_previous_completion(self) -> None:
        self._list.action_move(-1)

    def action_read_on(self) -> None:
        self._page.action_scroll_page(1)

    def action_read_back(self) -> None:
        self._page.action_scroll_page(-1)

    def action_back(self) -> None:
        """Out of the question, the zoom, the comparison, the filter; then to the screen before."""
        if self.bar.display:
            self.close_bar(forget=self.bar.purpose == "filter")
        elif self._is_zoomed:
            self.action_zoom()
        elif self.kind != "completion":
            self._show_kind("completion")
        elif self._wish.term is not None:
            self.ask_for(term=None)
        else:
            super().action_back()

    def _take_list(self, view: ListView) -> None:
        self.view, self._problem = view, ""
        self._list.take(view)
        self._look()

    def _take_seen(self, seen: Seen) -> None:
        before, self.seen = self.seen, seen
        self._list.fill(seen.previews)
        page = self._page
        if seen.page is None:
            return
        starts = seen.page.starts
        top = starts[seen.index] if seen.look.kind == "group" and seen.index < len(starts) else 0
        page.show_from(
            seen.page, None if seen.is_about_the_same(before) else top * (seen.index > 0)
        )

    def current(self) -> Seen | None:
        seen = self.seen
        is_current = seen is not None and seen.look.cursor == self._list.key
        return seen if is_current and seen is not None and seen.look.kind == self.kind else None

    def _turn(self, by: int) -> None:
        rounds = self.view.rounds
        now = self.view.round if self._wish.round == NEWEST else self._wish.round
        place = rounds.index(now) + by if now in rounds else len(rounds) - 1
        if rounds:
            self.ask_for(round=rounds[max(0, min(place, len(rounds) - 1))])

    def _show_kind(self, kind: PageKind) -> None:
        self.kind = kind
        self._arrange()

    def _arrange(self) -> None:
        """Make room for what is looked at."""
        width, height = self.size
        is_beside = width >= (BESIDE_PAIR if self.kind == "pair" else BESIDE)
        is_page_only = self._is_zoomed or (self.kind == "pair" and not is_beside)
        self.set_class(is_beside, "-beside")
        self.set_class(is_page_only, "-page-only")
        self.set_class(height < LOW and not is_page_only, "-list-only")
        self.call_after_refresh(self._settle)

    def _settle(self) -> None:
        """Once the panes have their sizes."""
        if not self.bar.display:
            self.focus_main()
        self._look()

    def focus_main(self) -> None:
        self.set_focus(self._list if self._list.display else self._page)

    def say(self) -> None:
        place = self._list.cursor if self.view.keys else None
        self.query_one(TitleLine).show(
            title_of(self.run_dir, self.view, self._wish, place=place, problem=self._problem)
        )

    @property
    def _list(self) -> CompletionList:
        return self.query_one(CompletionList)

    @property
    def _page(self) -> PageView:
        return self.query_one(PageView)
