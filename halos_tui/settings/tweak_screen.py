"""This screen changes a run's settings between rounds: the form, what follows, and the request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from halos_backend.errors import HalosError
from halos_backend.settings_json import changed_last
from halos_backend.store.run_dir import RunDir
from halos_backend.store.run_summary import planned_rounds
from halos_backend.store.state import RunState
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import Input, Static

from halos_tui.actions import ScreenName
from halos_tui.feed import Updated, in_background
from halos_tui.formatting import plural, visible_lines
from halos_tui.screens.dialogs import Choice, ChoiceDialog, EntryDialog
from halos_tui.settings.editor import SettingsEditor
from halos_tui.settings.form import FormView, SettingsForm
from halos_tui.settings.form_screen import SEARCH, FormActions
from halos_tui.settings.rows import Row
from halos_tui.settings.tweaking import Tweak, why_not_tweak
from halos_tui.terminal.key_order import hold_keys, keys_held, release_keys
from halos_tui.tracking.state_tail import StateTail
from halos_tui.widgets.footer import Footer

LONG_S = 12.0
OF_THE_FORM = frozenset(
    {"apply", "apply_and_resume", "edit", "choose", "choose_before", "reset", "from_round", "copy"}
)


class TweakScreen(FormActions):
    """It shows the settings of `run_dir` now, and from the next round on."""

    NAME: ClassVar[ScreenName] = "tweak"
    BINDINGS: ClassVar[list[BindingType]]
    TITLES: ClassVar[Mapping[str, str]] = {"rows": "settings", "details": "about the setting"}
    BORDER_KEYS: ClassVar[Mapping[str, Sequence[str]]] = {"rows": ("edit", "reset")}
    DEFAULT_CSS = """
    TweakScreen {
        #title { height: auto; max-height: 4; text-style: bold; }
        #find { height: 1; border: none; padding: 0; display: none; }
    }
    """

    def __init__(self, run_dir: RunDir) -> None:
        super().__init__()
        self.run_dir = run_dir
        self._tail = StateTail(run_dir)
        self._tweak: Tweak | None = None
        self._question: ApplyDialog | None = None
        self._is_asking = False

    def compose(self) -> ComposeResult:
        yield Static("", id="title", markup=False)
        yield SettingsEditor(is_ascii=self.halos.options.is_ascii, id="editor")
        yield Input(placeholder=SEARCH, select_on_focus=False, id="find")
        yield Footer(is_ascii=self.halos.options.is_ascii)

    def on_mount(self) -> None:
        self._say("reading ...")
        self.editor.rows.focus()
        hold_keys(self)  # they are about settings that are not shown yet
        self._feed = self.follow(self._read, interval_s=1.0)

    def on_updated(self, message: Updated[RunState]) -> None:
        """Follows the run, which goes on while a person types: a new round moves the change to the
        next.
        """
        self._turn_to(message.view, self._tweak.chosen if self._tweak else None)
        release_keys(self)

    def on_screen_suspend(self) -> None:
        if self._question is not None:
            self.call_later(self._feed.resume)  # the screen's own handler comes after this one

    def why_not(self, action: str) -> str:
        """Nothing is changed in a run that has ended; only one that stopped goes on."""
        if self._tweak is None or action not in OF_THE_FORM:
            return super().why_not(action)
        if self.form is None:
            return why_not_tweak(self._tweak.state, self.run_dir)
        if action != "apply_and_resume":
            return ""
        return why_not_resume(self._tweak.state, apply_key=self.key("apply"))

    def action_apply(self) -> None:
        self._confirm(and_resume=False)

    def action_reset(self) -> None:
        """Takes back what is edited here; where nothing is, the newest change of the setting."""
        if not self.editor.reset() and self.editor.rows.row is not None:
            self._take_back(self.editor.rows.row)

    def action_apply_and_resume(self) -> None:
        self._confirm(and_resume=True)

    def action_copy(self) -> None:
        """Copies the command that does the same."""
        if self._tweak is not None and self.form is not None:
            command = self._tweak.command(self.form.assignments or ("KEY=VALUE",))
            self.app.copy_to_clipboard(command)
            self.app.notify(visible_lines(command), title="copied", markup=False)

    def action_from_round(self) -> None:
        if self._tweak is not None and self.form is not None:
            self.run_worker(self._ask_round(self._tweak), group="from_round", exclusive=True)

    def _take_back(self, row: Row) -> None:
        if self._tweak is None or self.form is None:
            return
        taken = changed_last(row.path, self._tweak.last_changes)
        round = max((change.from_round for change in taken.values()), default=0)
        if not taken:
            self._warn(f"{row.path} has not been changed in this run")
        elif round > self._tweak.from_round and self.form.edits:
            self._warn(f"{row.path} changes from round {round} on: apply what is edited here first")
        else:
            if round > self._tweak.from_round:
                self._turn_to(self._tweak.state, round)
            for path, change in taken.items():
                self.form.put_back(path, change.before)
            self.editor.check()

    def _warn(self, text: str) -> None:
        self.notify(visible_lines(text), severity="warning", markup=False)

    @on(SettingsEditor.Changed)
    def _changed(self, message: SettingsEditor.Changed) -> None:
        if self._tweak is not None and self.form is not None:
            self._show_round(self._tweak.state, message.view)
            self._show_command(self._tweak, message.view)
            if self._question is not None:
                self._question.follow(self._tweak, message.view)

    def _read(self) -> RunState | None:
        """Returns the state, once it says something else about when settings can change."""
        before = _what_matters(self._tail.state)
        self._tail.read()
        self._tail.forget_old_rounds()
        return None if _what_matters(self._tail.state) == before else self._tail.state

    def _turn_to(self, state: RunState, chosen: int | None) -> None:
        """Turns to a round; one that is past or under way by now cannot be chosen."""
        tweak = Tweak(self.run_dir, state)
        if chosen is not None and not tweak.why_not_from(chosen):
            tweak = Tweak(self.run_dir, state, chosen)
        self._show(tweak)

    def _show(self, tweak: Tweak) -> None:
        self._tweak = tweak
        if problem := why_not_tweak(tweak.state, self.run_dir):
            self.form = None
            self._say(self.in_keys(problem))
            self.mind_actions()
            if self._question is not None:
                self._question.give_up(problem)
            return
        form = tweak.form()
        if self.form is not None:
            form.edits = dict(self.form.edits)
        self.form = form
        self.mind_actions()
        self.editor.set_form(form)

    def _show_round(self, state: RunState, view: FormView) -> None:
        planned = planned_rounds(state)
        of = f" of {planned}" if planned else ""
        self._say(
            f"{self.run_dir.name} is {state.status}, round {state.num_rounds}{of};"
            f" changes hold from round {view.from_round} on"
        )

    def _show_command(self, tweak: Tweak, view: FormView) -> None:
        more = []
        if view.assignments:
            more = [(f"$ {tweak.command(view.assignments)}", "muted")]
        self.editor.set_more(more)

    def _confirm(self, *, and_resume: bool) -> None:
        if self._tweak is not None and self.form is not None and not self._is_asking:
            self._is_asking = True
            self.app.run_worker(
                self._apply(self._tweak, self.form.copy(), and_resume=and_resume), group="tweak"
            )

    async def _apply(self, tweak: Tweak, form: SettingsForm, *, and_resume: bool) -> None:
        try:
            with keys_held(self.app):
                question = ApplyDialog(tweak, await in_background(form.view), and_resume=and_resume)
                if problem := question.problem:
                    self.notify(visible_lines(problem), severity="error", markup=False)
                elif await self._agree(question):
                    self._tell(await in_background(question.apply))
        except HalosError as error:
            self.notify(visible_lines(str(error)), severity="error", markup=False, timeout=LONG_S)
        finally:
            self._is_asking = False

    async def _agree(self, question: ApplyDialog) -> bool:
        """Asks, and follows the run meanwhile: a round that begins moves the change to the next."""
        self._question = question
        try:
            is_wanted = await self.app.push_screen_wait(question)
        finally:
            self._question = None
        return is_wanted is True

    def _tell(self, said: str) -> None:
        self.app.notify(visible_lines(f"{self.run_dir.name}: {said}"), markup=False)
        if self.form is not None:
            self.form.edits.clear()
        if self.is_current:
            self.leave()

    async def _ask_round(self, tweak: Tweak) -> None:
        def check(text: str) -> str:
            is_number = text.strip().isdecimal()
            return tweak.why_not_from(int(text)) if is_number else "a round's number"

        view = self.editor.view
        dialog = EntryDialog(
            "From which round on?",
            f"Round {tweak.first_round} is the first that it can hold for, as long as its stages"
            " that are done stay right.",
            value=str(view.from_round if view else tweak.from_round),
            check=check,
        )
        text = await self.app.push_screen_wait(dialog)
        if text and self._tweak is not None:  # the run went on while the dialog was open
            self._turn_to(self._tweak.state, int(text))

    def _say(self, text: str) -> None:
        self.query_one("#title", Static).update(visible_lines(text))


def _what_matters(state: RunState) -> tuple[object, ...]:
    """Returns what a change of settings depends on."""
    last = state.rounds[-1] if state.rounds else None
    stages = tuple((name, stage.status) for name, stage in last.stages.items()) if last else ()
    return state.run, state.status, state.num_rounds, len(state.changes), stages


def why_not_resume(state: RunState, *, apply_key: str = "") -> str:
    if state.status in ("paused", "failed"):
        return ""
    instead = f": {apply_key} applies" if apply_key else ""
    return f"the run is {state.status}, so there is nothing to go on with{instead}"


class ApplyDialog(ChoiceDialog[bool]):
    """It asks about all that is to happen before it does. What it says is what is sent."""

    def __init__(self, tweak: Tweak, view: FormView, *, and_resume: bool) -> None:
        self.tweak = tweak
        self.view = view
        self.and_resume = and_resume
        super().__init__(*self._words(), [Choice("y", "yes", answer=True)])

    @property
    def problem(self) -> str:
        """Says why that cannot be done; "" where it can."""
        view = self.view
        if view.problems:
            return "\n".join(
                f"{path}: {reason}" if path else reason for path, reason in view.problems.items()
            )
        if self.and_resume and (problem := why_not_resume(self.tweak.state)):
            return problem
        if not view.assignments and not self.and_resume:
            return "nothing is changed yet"
        return ""

    def follow(self, tweak: Tweak, view: FormView) -> None:
        """Asks about the same edits as they are since the run went on."""
        self.tweak, self.view = tweak, view
        if problem := self.problem:
            self.give_up(problem)
        else:
            self.reword(*self._words())

    def give_up(self, problem: str) -> None:
        """Leaves all as it is, since the run went on."""
        if self.is_current:
            self.app.notify(self.worded(problem), severity="error", markup=False)
            self.dismiss(None)

    def apply(self) -> str:
        return self.tweak.apply(
            self.view.assignments, from_round=self.view.from_round, and_resume=self.and_resume
        )

    def _words(self) -> tuple[str, str]:
        """Returns what is asked, and what follows from it."""
        tweak, view = self.tweak, self.view
        values = {row.path: row.value for row in view.rows}
        lines = [
            f"  {path}: {view.now.get(path) or 'unset'} -> {values.get(path) or 'unset'}"
            for path in sorted(view.edited)
        ]
        lines += [f"> {sentence}" for sentence in view.checked.consequences]
        if view.assignments:
            lines.append(f"$ {tweak.command(view.assignments)}")
        then = ", then the run goes on" if self.and_resume else ""
        changed = plural(len(view.edited), "setting")
        heading = f"Change {changed} from round {view.from_round} on{then}?"
        if not view.edited:
            heading = f"Go on with {tweak.run_dir.name}, unchanged?"
        return heading, "\n".join(lines)
