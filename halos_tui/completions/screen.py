"""This screen shows what the policy says: all completions of a run by round, and one as a page.

One thread lists, another decodes what is in sight; the screen draws what arrives. It also takes
completions out of the app, to the clipboard or into a file, and its title says which are listed, in
what order, and how far the list is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from halos_backend.errors import HalosError
from halos_backend.store.own_words import Key, OwnMark, OwnMarks, toggle_marks, write_note
from halos_backend.store.run_dir import RunDir
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container

from halos_tui.actions import ScreenName
from halos_tui.completions.completion_list import CompletionList
from halos_tui.completions.details import CompletionDetails
from halos_tui.completions.page import as_text, extremes, own_keys, own_mark_of
from halos_tui.completions.query import CompletionFilter, read_filter
from halos_tui.completions.reader import CompletionsReader
from halos_tui.completions.round_rows import last_user_message
from halos_tui.completions.title import title_of, with_prompt
from halos_tui.completions.view import (
    ALL_ROUNDS,
    NEWEST,
    ONLY,
    ORDERS,
    DetailsQuery,
    ListQuery,
    ListView,
    PageKind,
    Seen,
)
from halos_tui.feed import Feed, FeedFailed, Updated, in_background
from halos_tui.formatting import count, plural, visible
from halos_tui.screens.asking import MUCH_TO_COPY, Asked, Filter, MakeText, Writing
from halos_tui.screens.base import HalosScreen
from halos_tui.terminal.key_order import keys_held
from halos_tui.text_layout import Page
from halos_tui.widgets.ask_line import AskLine, Question
from halos_tui.widgets.footer import Footer
from halos_tui.widgets.page_view import PageView
from halos_tui.widgets.title_line import TitleLine
from halos_tui.widgets.virtual_list import VirtualList

BESIDE, BESIDE_PAIR = 110, 170
"""From these widths on list and page stand beside each other: usually, and for a pair."""
LOW = 10
"""Below this height there is room for only one of the two."""


OF_ANSWER = frozenset(
    {"mark", "note", "copy", "write", "group", "differences", "over_rounds", "zoom"}
)
"""These actions are about the answer at the cursor."""


class CompletionsScreen(HalosScreen):
    """The screen is about one run; it begins at `round`, or at the newest with completions.

    With `prompt_id` it begins with all completions of that prompt.
    """

    NAME: ClassVar[ScreenName] = "completions"
    BINDINGS: ClassVar[list[BindingType]]
    TITLES: ClassVar[Mapping[str, str]] = {"list": "completions", "page": "completion"}
    BORDER_KEYS: ClassVar[Mapping[str, Sequence[str]]] = {
        "list": ("sort", "search"),
        "page": ("group", "differences", "over_rounds", "mark", "note", "copy"),
    }
    DEFAULT_CSS = """
    CompletionsScreen {
        #panes { height: 1fr; layout: vertical; }
        #list { height: 38%; }
        #page { height: 1fr; }
        &.-beside #panes { layout: horizontal; }
        &.-beside #list { width: 45%; height: 1fr; }
        &.-beside #page { width: 1fr; }
        &.-page-only #list { display: none; }
        &.-list-only #page, &.-empty #page { display: none; }
        &.-empty #list { display: block; height: 1fr; width: 1fr; }
        &.-list-only #list { height: 1fr; }
    }
    """

    def __init__(
        self, run_dir: RunDir, round: int | None = None, prompt_id: str | None = None
    ) -> None:
        super().__init__()
        self._wanted_prompt = prompt_id
        self.run_dir = run_dir
        self.view = ListView()
        self.seen: Seen | None = None
        self.kind: PageKind = "completion"
        query = ListQuery(round=NEWEST if round is None else round)
        self._reader = CompletionsReader(run_dir, query)
        self.asked = Asked(query, self._reader.ask)
        self._filter = Filter(
            self,
            read=read_filter,
            term=lambda: self.asked.query.filter,
            use=self._use_filter,
            leave=self.focus_main,
            hint="words, /pattern, reward<0 len>200 round:3 chosen: text~pattern",
        )
        self._writing = Writing(self, content=self.content, leave=self.focus_main)
        self._note = Question(
            "note",
            "a line of your own; nothing takes it away",
            typed=lambda _text: self.query_one(AskLine).refuse(""),
            answered=self._note_answered,
        )
        self._noting: list[Key] = []
        self._problem = ""
        self._details: CompletionDetails | None = None
        self._details_feed: Feed[Seen] | None = None
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
        self._details = CompletionDetails(self._reader.index, is_ascii=self.halos.options.is_ascii)
        self.asked.answered_by(self.follow(self._reader.read))
        self._details_feed = self.follow(self._details.read)

    def on_unmount(self) -> None:
        self._reader.close()
        if self._details is not None:
            self._details.close()

    def on_resize(self) -> None:
        self._arrange()

    def on_updated(self, message: Updated[Any]) -> None:
        match message.view:
            case ListView():
                self._take_list(message.view)
            case Seen():
                self._take_seen(message.view)

    @on(VirtualList.Moved)
    def _ask_details(self) -> None:
        """Asks for what is in sight now."""
        listed, wanted = self._list, self.asked.query.filter
        query = DetailsQuery(
            keys=listed.keys_in_sight() if listed.display else (),
            cursor=listed.at_cursor,
            kind=self.kind,
            width=max(1, self._page.size.width),
            hits=() if wanted is None else wanted.hits,
            generation=self.view.generation,
            own_marks=self.view.own_marks,
            num_known=self.view.num_completions if self.kind == "rounds" else 0,
        )
        if self._details is not None and self._details_feed is not None:
            self._details.ask(query)
            self._details_feed.hurry()
        self.say()

    def on_feed_failed(self, message: FeedFailed) -> None:
        """Says what is wrong for as long as it is so, beside the notice that every screen gives."""
        self._problem = message.problem
        self.say()

    def why_not(self, action: str) -> str:
        view, rounds = self.view, self.view.rounds
        if not rounds:
            return ""
        turn = {"previous": (0, "that is the first round"), "next": (-1, "that is the newest one")}
        if action in turn:
            end, why = turn[action]
            return why if self._round() == rounds[end] else ""
        if action in OF_ANSWER and not view.keys:
            return "nothing fits the filter" if self.asked.query.filter else "nothing is listed"
        return ""

    def action_search(self) -> None:
        self._filter.ask()

    def action_write(self) -> None:
        self._writing.ask()

    def action_copy(self) -> None:
        """Copies exactly what the policy said, by OSC 52."""
        if (seen := self.current()) is None or seen.group is None:
            self.notify("there is nothing to copy yet", severity="warning", markup=False)
            return
        if seen.pair is not None:
            text = as_text((), _answers(seen))
        else:
            text = seen.group.completions[seen.index].text
        self.app.copy_to_clipboard(text)
        much = f"; many terminals take less than that, {self.key('write')} writes a file"
        more = much if len(text) > MUCH_TO_COPY else ""
        self.notify(f"copied {plural(len(text), 'character')}{more}", markup=False)

    def action_mark(self) -> None:
        """Marks the answer, and those of its group that are alike."""
        if (answer := self._answer_to_mark()) is not None:
            self._change_marks(partial(toggle_marks, self.run_dir, answer[1]))

    def action_note(self) -> None:
        """Asks for the note about the answer."""
        if (answer := self._answer_to_mark()) is None:
            return
        own, keys = answer
        self._noting = keys
        self.query_one(AskLine).ask(self._note, text="" if own is None else visible(own.note))

    def _answer_to_mark(self) -> tuple[OwnMark | None, list[Key]] | None:
        """Returns what names the answer at the cursor, and the mark that it has."""
        seen, row = self.current(), self._reader.index.row(self._list.at_cursor or 0)
        if seen is None or seen.group is None or row is None:
            self.notify("there is no answer to mark yet", severity="warning", markup=False)
            return None
        own = own_mark_of(seen.group, seen.index, row.round, self.view.own_marks)
        return own, own_keys(seen.group, seen.index, row.round)

    def _note_answered(self, text: str) -> None:
        self._change_marks(partial(write_note, self.run_dir, self._noting, text))

    def _change_marks(self, change: Callable[[], OwnMarks]) -> None:
        self.run_worker(self._changed_marks(change), group="marks")

    async def _changed_marks(self, change: Callable[[], OwnMarks]) -> None:
        """Writes, and has the list read again; the question stays until that is done."""
        bar = self.query_one(AskLine)
        with keys_held(self.app):
            try:
                await in_background(change)
            except HalosError as error:
                if bar.question is self._note:
                    bar.refuse(str(error))
                else:
                    self.notify(str(error), severity="error", markup=False)
                return
        if bar.question is self._note:
            bar.close()
            self.focus_main()
        self.asked.ask(self.asked.query)

    def action_previous(self) -> None:
        """Goes to the round before; from all rounds to the newest."""
        self._turn(-1)

    def action_next(self) -> None:
        self._turn(1)

    def action_all_rounds(self) -> None:
        self.ask_for(
            replace(
                self.asked.query,
                round=NEWEST if self.asked.query.round == ALL_ROUNDS else ALL_ROUNDS,
            )
        )

    def action_sort(self) -> None:
        self.ask_for(
            replace(
                self.asked.query,
                order=ORDERS[(ORDERS.index(self.asked.query.order) + 1) % len(ORDERS)],
            )
        )

    def action_reverse(self) -> None:
        self.ask_for(replace(self.asked.query, ascending=not self.asked.query.ascending))

    def action_only(self) -> None:
        self.ask_for(
            replace(
                self.asked.query, only=ONLY[(ONLY.index(self.asked.query.only) + 1) % len(ONLY)]
            )
        )

    def action_group(self) -> None:
        self._show_kind("completion" if self.kind == "group" else "group")

    def action_differences(self) -> None:
        self._show_kind("completion" if self.kind == "pair" else "pair")

    def action_over_rounds(self) -> None:
        self._show_kind("completion" if self.kind == "rounds" else "rounds")

    def action_zoom(self) -> None:
        self._is_zoomed = not self._is_zoomed
        self._arrange()

    def action_next_completion(self) -> None:
        self._list.action_move(1)

    def action_previous_completion(self) -> None:
        self._list.action_move(-1)

    def action_read_on(self) -> None:
        self._page.action_page(1)

    def action_read_back(self) -> None:
        self._page.action_page(-1)

    def action_back(self) -> None:
        """Leaves the question, the zoom, the comparison, the filter; then goes to the screen
        before.
        """
        if self.query_one(AskLine).display:
            self._filter.close_bar()
        elif self._is_zoomed:
            self.action_zoom()
        elif self.kind != "completion":
            self._show_kind("completion")
        elif self.asked.query.filter is not None:
            self.ask_for(replace(self.asked.query, filter=None))
        else:
            super().action_back()

    def ask_for(self, query: ListQuery) -> None:
        """Lists something else."""
        self.asked.ask(query)
        self.say()

    def _use_filter(self, wanted: CompletionFilter | None) -> None:
        self.ask_for(replace(self.asked.query, filter=wanted))

    def content(self) -> MakeText | None:
        """Returns what writes the page, once that is decoded."""
        seen = self.current()
        if seen is None or seen.group is None:
            return None
        prompt, answers = seen.group.prompt, _answers(seen)
        return lambda _path: as_text(prompt, answers)

    def _take_list(self, view: ListView) -> None:
        self.view, self._problem = view, ""
        self._list.take(view)
        self._arrange_for(view)
        if self._wanted_prompt is not None:
            self._find(self._wanted_prompt)
        self._ask_details()

    def _arrange_for(self, view: ListView) -> None:
        """Has no page where nothing is listed, and the page again where something is."""
        is_found = bool(view.keys) or view.num_bytes_read < view.num_bytes
        if is_found == self.has_class("-empty"):
            self.set_class(not is_found, "-empty")
            self.call_after_refresh(self._settle)

    def _find(self, prompt_id: str) -> None:
        """Goes to the group of a prompt once it is listed."""
        key = self._reader.index.first_key(self.view.round, prompt_id)
        if key is not None and key in self.view.keys:
            self._wanted_prompt = None
            self._list.go_to(key)
            self._show_kind("group")

    def _take_seen(self, seen: Seen) -> None:
        before, self.seen = self.seen, seen
        self._list.fill(seen.previews)
        self.say()
        page = self._page
        if seen.page is None:
            if seen.query.cursor is None:
                page.show_from(Page(), 0)
            return
        starts = seen.page.starts
        top = starts[seen.index] if seen.query.kind == "group" and seen.index < len(starts) else 0
        page.show_from(
            seen.page, None if seen.is_about_the_same(before) else top * (seen.index > 0)
        )

    def current(self) -> Seen | None:
        """Returns what is shown of the completion at the cursor, once that is decoded."""
        seen = self.seen
        is_current = seen is not None and seen.query.cursor == self._list.at_cursor
        return seen if is_current and seen is not None and seen.query.kind == self.kind else None

    def _turn(self, by: int) -> None:
        rounds, now = self.view.rounds, self._round()
        place = rounds.index(now) + by if now in rounds else len(rounds) - 1
        if rounds:
            self.ask_for(
                replace(self.asked.query, round=rounds[max(0, min(place, len(rounds) - 1))])
            )

    def _round(self) -> int:
        """Returns the round that is asked for, once it is known which one is the newest."""
        return self.view.round if self.asked.query.round == NEWEST else self.asked.query.round

    def _show_kind(self, kind: PageKind) -> None:
        self.kind = kind
        self._arrange()

    def _arrange(self) -> None:
        """Makes room for the panes that are shown."""
        width, height = self.size
        is_beside = width >= (BESIDE_PAIR if self.kind == "pair" else BESIDE)
        is_page_only = self._is_zoomed or (self.kind == "pair" and not is_beside)
        self.set_class(is_beside, "-beside")
        self.set_class(is_page_only, "-page-only")
        self.set_class(height < LOW and not is_page_only, "-list-only")
        self.call_after_refresh(self._settle)

    def _settle(self) -> None:
        """Draws once the panes have their sizes."""
        if not self.query_one(AskLine).display:
            self.focus_main()
        self._ask_details()

    def focus_main(self) -> None:
        self.set_focus(self._list if self._list.display else self._page)

    def say(self) -> None:
        place = self._list.cursor if self.view.keys else None
        title = title_of(
            self.run_dir, self.view, self.asked.query, place=place, problem=self._problem
        )
        if (seen := self.current()) is not None and seen.group is not None:
            title = with_prompt(title, last_user_message(seen.group.prompt), self.size.width)
        self.query_one(TitleLine).show(title)
        self.mind_actions()

    @property
    def _list(self) -> CompletionList:
        return self.query_one(CompletionList)

    @property
    def _page(self) -> PageView:
        return self.query_one(PageView)


def _answers(seen: Seen) -> list[tuple[str, str]]:
    """Returns the completions that are shown, with headings for a file."""
    assert seen.group is not None
    if seen.pair is not None:
        return [("chosen", seen.pair.chosen.text), ("rejected", seen.pair.rejected.text)]
    if seen.query.kind == "rounds":
        return [
            (f"{name}, {what}", group.completions[index].text)
            for _, name, group in seen.rounds
            for what, index in extremes(group)
        ]
    completions = seen.group.completions
    if seen.query.kind == "group":
        return [
            (f"completion {count(place)}", completion.text)
            for place, completion in enumerate(completions, start=1)
        ]
    return [("assistant", completions[seen.index].text)]
