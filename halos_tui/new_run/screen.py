"""This screen sets up a new run and starts it: what to begin with, form, findings, plan."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from halos_backend.config.schema import RunSettings
from halos_backend.errors import HalosError
from halos_backend.findings import Finding, InputsError, with_level
from halos_backend.store.run_dir import RunDir
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widgets import Input, Static

from halos_tui.actions import ScreenName
from halos_tui.commands import as_called
from halos_tui.feed import in_background, stop_if
from halos_tui.formatting import count, plural, visible_lines
from halos_tui.new_run import starts
from halos_tui.new_run.checking import Tell
from halos_tui.new_run.draft import Draft, check_name, make_and_start, plan_of
from halos_tui.new_run.offer_list import OfferList
from halos_tui.new_run.starts import Offer, Start
from halos_tui.screens.dialogs import Choice, ChoiceDialog, EntryDialog
from halos_tui.settings.editor import SettingsEditor
from halos_tui.settings.form import FormView, SettingsForm
from halos_tui.settings.form_screen import SEARCH, FormActions
from halos_tui.settings.rows_list import often_key
from halos_tui.terminal.key_order import keys_held
from halos_tui.widgets.completing_input import paths_like
from halos_tui.widgets.footer import Footer
from halos_tui.widgets.virtual_list import VirtualList


class NewRunScreen(FormActions):
    """The screen begins with another run's settings, or asks what to begin with."""

    NAME: ClassVar[ScreenName] = "new_run"
    BINDINGS: ClassVar[list[BindingType]]
    TITLES: ClassVar[Mapping[str, str]] = {"rows": "settings", "details": "about the setting"}
    BORDER_KEYS: ClassVar[Mapping[str, Sequence[str]]] = {"rows": ("edit", "reset")}
    DEFAULT_CSS = """
    NewRunScreen {
        #title { height: 1; text-style: bold; text-wrap: nowrap; text-overflow: ellipsis; }
        #find { height: 1; border: none; padding: 0; display: none; }
        #form { display: none; }
        &.-form #form { display: block; }
        &.-form OfferList { display: none; }
    }
    """

    def __init__(self, start_from: RunDir | None = None) -> None:
        super().__init__()
        self._start_from = start_from
        self._start: Start | None = None
        self._run_name = ""
        self._said_of: tuple[str, ...] = ()
        self._is_busy = False
        self._is_anew = False
        self._is_left = threading.Event()

    def compose(self) -> ComposeResult:
        yield Static("", id="title", markup=False)
        yield OfferList(is_ascii=self.halos.options.is_ascii, id="offers")
        with Vertical(id="form"):
            yield SettingsEditor(is_ascii=self.halos.options.is_ascii, id="editor")
        yield Input(placeholder=SEARCH, select_on_focus=False, id="find")
        yield Footer(is_ascii=self.halos.options.is_ascii)

    def on_mount(self) -> None:
        self._offers.focus()
        self.editor.words = self.in_keys
        if self._start_from is None:
            self._choose()
        else:
            run_dir = self._start_from
            self._begin(lambda: starts.start_from_run(run_dir))

    def on_unmount(self) -> None:
        self._is_left.set()
        super().on_unmount()

    @property
    def searched(self) -> VirtualList[Any, Any]:
        return self.editor.rows if self._is_form else self._offers

    @property
    def root(self) -> Path:
        return self.halos.options.runs_root

    def action_begin_anew(self) -> None:
        """Asks what to begin with; a person with edits is asked before they are lost."""
        if self.form is not None and self.form.edits:
            self.run_worker(self._ask_to_leave(len(self.form.edits)), group="leave", exclusive=True)
        else:
            self._choose()

    def _choose(self) -> None:
        self.form = None
        self.remove_class("-form")
        self._offers.focus()
        self._title("A new run begins with ...")
        self.run_worker(self._show_offers(), group="offers", exclusive=True)

    def action_edit(self) -> None:
        if self._is_form:
            super().action_edit()
        else:
            self._offers.choose()

    def action_name_run(self) -> None:
        self.run_worker(self._ask_name(), group="name", exclusive=True)

    def action_copy(self) -> None:
        """Copies the run file."""
        view = self.editor.view
        if self._start is None or view is None or view.checked.settings is None:
            self.notify("there is no run file to copy before all settings are right", markup=False)
            return
        settings = RunSettings.model_validate(view.checked.settings)
        self.app.copy_to_clipboard(self._start.config_text(settings, view.assignments))
        self.notify("the run file is copied", markup=False)

    def action_plan(self) -> None:
        """Checks the inputs for real, and says what the run would do."""
        self._work(self._plan)

    def action_start(self) -> None:
        self._work(self._make)

    def leave(self) -> None:
        """Goes from a form that was chosen here back to the choice, from there to the screen
        before.
        """
        if self._is_form and self._start_from is None:
            self._choose()
        else:
            super().leave()

    @on(Input.Changed, "#find")
    def _search_offers(self, message: Input.Changed) -> None:
        self._offers.search(message.value)

    @on(OfferList.Chosen, "#offers")
    def _chosen(self) -> None:
        self._take(self._offers.at_cursor)

    @on(SettingsEditor.Changed)
    def _changed(self, message: SettingsEditor.Changed) -> None:
        if self._is_anew:
            self._is_anew = False
            self._go_to_what_is_wrong(message.view)
        self._show_title(message.view)
        if message.view.assignments != self._said_of:
            self._say()

    def _go_to_what_is_wrong(self, view: FormView) -> None:
        found = view.found.items()
        refused = [path for path, findings in found if findings[0].level == "problem"]
        wrong = [path for path in (*view.problems, *refused) if path]
        rows = self.editor.rows
        often = [] if rows.filter else [path for path in view.often if path in wrong]
        if often:
            rows.go_to(often_key(often[0]))
        elif wrong:
            rows.go_to(wrong[0])

    @property
    def _offers(self) -> OfferList:
        return self.query_one(OfferList)

    @property
    def _is_form(self) -> bool:
        return self.has_class("-form")

    def _title(self, text: str) -> None:
        self.query_one("#title", Static).update(visible_lines(text))

    async def _show_offers(self) -> None:
        root = self.root
        with keys_held(self.app):
            self._offers.show_offers(await in_background(lambda: starts.offers(root)))

    def _take(self, offer: Offer | None) -> None:
        """Begins with an offer; None is a run file, whose path is asked for."""
        if offer is None:
            self.run_worker(self._ask_file(), group="file", exclusive=True)
        else:
            self._begin(lambda: offer.load(self._report))

    def _begin(self, load: Callable[[], Start]) -> None:
        if not self._is_busy:
            self._is_busy = True
            self.run_worker(self._load(load), group="load")

    async def _load(self, load: Callable[[], Start]) -> None:
        self._title("reading ...")
        try:
            with keys_held(self.app):
                start = await asyncio.to_thread(load)
        except (HalosError, OSError) as error:
            self.notify(visible_lines(str(error)), severity="error", markup=False, timeout=12)
            self._title("A new run begins with ...")
            if self._start_from is not None:
                self._start_from = None
                self._choose()
            return
        finally:
            self._is_busy = False
        self._start = start
        self.form = start.form()
        self.add_class("-form")
        self._close_search()
        self._is_anew = True
        self.editor.rows.move_to(0)
        self.editor.set_form(self.form)
        self.editor.rows.focus()
        self._show_title(None)

    def _close_search(self) -> None:
        """Shows all settings, whatever the search for something to begin with was."""
        field = self.query_one("#find", Input)
        field.value = ""
        field.display = False
        self.editor.search("")

    def _show_title(self, view: FormView | None) -> None:
        if self._start is not None:
            name = f" {self._run_name}" if self._run_name else ""
            num = len(view.differs) if view else 0
            differs = f"; {plural(num, 'setting')} changed" if num else ""
            self._title(f"New run{name}, from {self._start.label}{differs}")

    def _say(self, *lines: tuple[str, str]) -> None:
        """Shows lines with the names of their styles until something is edited."""
        self._said_of = self.form.assignments if self.form else ()
        self.editor.set_more([(self.in_keys(text), style) for text, style in lines])

    def _work(self, work: Callable[[Draft, Tell], None]) -> None:
        """Does work of seconds in a thread, once the settings are right; one at a time."""
        if self._start is not None and self.form is not None and not self._is_busy:
            self._is_busy = True
            self.run_worker(self._try(work, self._start, self.form.copy()), group="work")

    async def _try(
        self, work: Callable[[Draft, Tell], None], start: Start, form: SettingsForm
    ) -> None:
        found: list[Finding] = []
        try:
            view = await in_background(form.view)
            if view.checked.settings is None:
                self._say((f"! {plural(len(view.problems), 'problem')} to mend first", "bad"))
                return
            draft = Draft(
                start,
                RunSettings.model_validate(view.checked.settings),
                view.assignments,
                root=self.root,
                name=self._run_name,
            )
            # to_thread and not in_background: what is half-made is taken back before the app ends
            await asyncio.to_thread(work, draft, found.append)
            self._learn(found, view)
        except InputsError as error:
            self._is_anew = True
            self._say()
            self._learn([*error.problems, *found], view)
        except (HalosError, OSError) as error:
            self._say((f"! {error}", "bad"))
        finally:
            self._is_busy = False

    def _learn(self, found: Sequence[Finding], view: FormView) -> None:
        """Shows what a look at the inputs found, beside the settings that it is about."""
        if self.form is not None and self.is_attached:
            self.form.learn(found, view)
            self.editor.check()

    def _plan(self, draft: Draft, tell: Tell) -> None:
        warnings: list[Finding] = []

        def warn(finding: Finding) -> None:
            warnings.append(finding)
            tell(finding)

        lines = plan_of(draft, self._report, warn)
        self.app.call_later(self._show_plan, draft, [*map(with_level, warnings), *lines])

    def _make(self, draft: Draft, tell: Tell) -> None:
        made = make_and_start(draft, self._report, tell)
        self.app.call_later(self._open, made)

    def _show_plan(self, draft: Draft, lines: Sequence[str]) -> None:
        """Shows the plan in a dialog, since it may be longer than the details have room for.

        What is started from there is what the form says, so that a plan of other settings is not
        shown.
        """
        if not self.is_current or self.form is None:
            return
        if (draft.assignments, draft.name) != (self.form.assignments, self._run_name):
            self._say(("! changed while the plan was made: ask for it again", "warning"))
            return
        self._say()
        choices = [Choice("s", "start it", answer=True)]
        self.app.push_screen(ChoiceDialog("The plan", "\n".join(lines), choices), self._planned)

    def _planned(self, wanted: bool | None) -> None:
        if wanted:
            self.call_later(self.action_start)

    def _open(self, made: RunDir) -> None:
        """Opens the new run instead of this screen."""
        if self.is_current:
            super().leave()
        self.halos.open_run(made)

    def _report(self, phase: str, done: int, total: int) -> None:
        """Is called in the thread that works."""
        stop_if(self._is_left)
        text = f"{phase}: {count(done)} of {count(total)}" if total else f"{phase} ..."
        self.app.call_later(self._show_progress, text)

    def _show_progress(self, text: str) -> None:
        if self.is_mounted and self._is_busy:
            if self._is_form:
                self._say((text, "accent"))
            else:
                self._title(text)

    async def _ask_name(self) -> None:
        dialog = EntryDialog(
            "The run's name",
            "Empty: by its loss and the time.",
            value=self._run_name,
            check=check_name,
        )
        name = await self.app.push_screen_wait(dialog)
        if name is not None:
            self._run_name = name.strip()
            self._show_title(self.editor.view)

    async def _ask_file(self) -> None:
        about = as_called("halos-tui init > run.toml writes one.")
        dialog = EntryDialog("Which run file?", about, fit=paths_like((Path.cwd(),)))
        text = await self.app.push_screen_wait(dialog)
        if text and text.strip():
            self._begin(lambda: starts.start_from_file(Path(text.strip())))
