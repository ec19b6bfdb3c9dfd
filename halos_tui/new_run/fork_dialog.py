"""Asks for what a fork needs, and makes it: the round, a name, changes of its settings."""

from __future__ import annotations

import asyncio
import shlex
import threading
from pathlib import Path

from halos_backend.errors import HalosError, UsageError
from halos_backend.store.run_dir import RunDir, check_run_name
from halos_backend.store.state import RunState
from textual import on
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Input, Static

from halos_tui.feed import in_background, stop_if
from halos_tui.formatting import count, visible_lines
from halos_tui.new_run import create
from halos_tui.new_run.create import make_run, start_made
from halos_tui.screens.dialogs import Dialog


class ForkDialog(Dialog[RunDir]):
    """The result is the new run, whose supervisor is started; what fails is said and can be
    changed.

    Leaving it while the run is made takes back what was made so far.
    """

    DEFAULT_CSS = """
    ForkDialog .label { height: 1; color: $text-muted; }
    """

    def __init__(self, run_dir: RunDir, state: RunState, *, root: Path) -> None:
        super().__init__()
        self._run_dir = run_dir
        self._root = root
        self._rounds = [number for number, _ in state.checkpoints]
        self._is_making = False
        self._is_left = threading.Event()

    def compose(self) -> ComposeResult:
        rounds = ", ".join(map(str, self._rounds)) or "none"
        last = str(self._rounds[-1]) if self._rounds else ""
        with VerticalScroll(id="box", can_focus=False):
            yield Static(
                visible_lines(f"A new run from a round of {self._run_dir.name}"),
                classes="heading",
                markup=False,
            )
            yield Static(f"after round (there are {rounds})", classes="label", markup=False)
            yield Input(last, id="round")
            yield Static("name", classes="label", markup=False)
            yield Input(placeholder=f"{self._run_dir.name}-rN", id="name")
            yield Static("other settings, as for --set", classes="label", markup=False)
            yield Input(placeholder="train.lr=1e-6 train.loss.kind=kto", id="changes")
            yield Static("", id="problem", classes="problem", markup=False)
            yield Static("", id="progress", classes="text", markup=False)
            yield Static(
                "tab to the next, enter makes and starts it, escape leaves all as it is",
                classes="hint",
                markup=False,
            )

    def on_mount(self) -> None:
        self.query_one("#round", Input).focus()
        self._start_check()

    def on_unmount(self) -> None:
        self._is_left.set()

    @on(Input.Changed)
    def _start_check(self) -> None:
        """Says at once what is wrong."""
        self.run_worker(self._check(), exclusive=True, group="check")

    @on(Input.Submitted)
    def _submitted(self) -> None:
        if not self._is_making:
            self.run_worker(self._make(), group="make")

    async def _check(self) -> None:
        round, name, changes = self._entries()
        try:
            await in_background(lambda: self._plan(round, name, changes))
        except HalosError as error:
            self._say(str(error))
        else:
            self._say("")

    async def _make(self) -> None:
        round, name, changes = self._entries()
        self._is_making = True
        self.workers.cancel_group(self, "check")  # its result must not hide the one of this
        self._say("")
        try:
            # to_thread and not in_background: what is half-made is taken back before the app ends
            made = await asyncio.to_thread(self._create, round, name, changes)
        except (HalosError, OSError) as error:
            self._say(str(error))
            self.query_one("#progress", Static).update("")
            self._is_making = False
        else:
            self.dismiss(made)

    def _create(self, round: str, name: str, changes: str) -> RunDir:
        plan = self._plan(round, name, changes)
        made = make_run(
            plan.settings,
            lambda: create.create_fork(
                plan, root=self._root, name=name or None, report=self._report
            ),
            root=self._root,
            warn=lambda _finding: None,
        )
        start_made(made)
        return made

    def _plan(self, round: str, name: str, changes: str) -> create.ForkPlan:
        """Plans the fork. Raises HalosError for what cannot be."""
        if not round.isdecimal():
            raise UsageError("name the round whose checkpoint it begins with")
        if name:
            check_run_name(self._root, name)
        try:
            overrides = shlex.split(changes)
        except ValueError as error:
            raise UsageError(f"the settings cannot be read: {error}") from error
        return create.plan_fork(self._run_dir, int(round), overrides)

    def _report(self, phase: str, done: int, total: int) -> None:
        """Is called in the thread that makes the run."""
        stop_if(self._is_left)
        text = f"{phase}: {count(done)} of {count(total)}"
        self.app.call_later(self._show_progress, text)

    def _show_progress(self, text: str) -> None:
        if self.is_mounted:
            self.query_one("#progress", Static).update(visible_lines(text))

    def _entries(self) -> tuple[str, str, str]:
        round, name, changes = (
            self.query_one(id, Input).value.strip() for id in ("#round", "#name", "#changes")
        )
        return round, name, changes

    def _say(self, problem: str) -> None:
        self.query_one("#problem", Static).update(self.worded(problem))
