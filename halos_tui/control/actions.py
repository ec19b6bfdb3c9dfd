"""What a person can do to runs, from the list of runs and from a run's own screen.

What is asked, and whether it can be, is `run_control`'s; the questions are the dialogs'. Every
request is made in a thread, and its answer shown as a notice.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from halos_backend.store.run_dir import RunDir

from halos_tui.control import batch
from halos_tui.control.batch import Look, Outcome, Step
from halos_tui.control.requests import When
from halos_tui.control.stop_dialogs import abort_dialog, pausing_dialog
from halos_tui.feed import in_background
from halos_tui.formatting import plural, visible, visible_lines
from halos_tui.screens.base import HalosScreen
from halos_tui.screens.dialogs import Choice, ChoiceDialog, EntryDialog, check_rounds

LONG_S = 12.0
"""How long a notice stays that has more to say than one line."""


class RunActions(HalosScreen):
    """A screen that is about one run or several; each action is about `selected_runs`."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: set[RunDir] = set()

    @abstractmethod
    def selected_runs(self) -> list[RunDir]:
        """What the actions are about."""

    def action_pause(self) -> None:
        """Pause what runs; where nothing does, go on."""
        self._steer(self._pause)

    def action_abort(self) -> None:
        self._steer(self._abort)

    def action_retry(self) -> None:
        self._steer(self._retry)

    def action_extend(self) -> None:
        self._steer(self._extend)

    def action_fork(self) -> None:
        if (run_dir := self._only_run()) is not None:
            self.halos.open_fork(run_dir)

    def action_tweak(self) -> None:
        if (run_dir := self._only_run()) is not None:
            self.halos.open_tweak(run_dir)

    def action_new_run(self) -> None:
        """On a run's own screen it begins with the settings of that run."""
        runs = self.selected_runs() if self.NAME == "run" else []
        start_from = runs[0] if runs else None
        self.halos.open_new_run(start_from=start_from)

    def action_completions(self) -> None:
        if (run_dir := self._only_run()) is not None:
            self.halos.open_completions(run_dir)

    def action_metrics(self) -> None:
        if runs := self.selected_runs():
            self.halos.open_metrics(runs)

    def action_logs(self) -> None:
        if (run_dir := self._only_run()) is not None:
            self.halos.open_logs(run_dir)

    def action_changes(self) -> None:
        if (run_dir := self._only_run()) is not None:
            self.halos.open_changes(run_dir)

    def _only_run(self) -> RunDir | None:
        runs = self.selected_runs()
        if len(runs) > 1:
            self.notify(
                f"that is for one run at a time, and {len(runs)} are selected", markup=False
            )
        return runs[0] if len(runs) == 1 else None

    def _steer(self, decide: Callable[[list[Look]], Coroutine[Any, Any, list[Step]]]) -> None:
        """Look, decide with the person, ask, tell. A second press meanwhile does nothing."""
        runs = [run_dir for run_dir in self.selected_runs() if run_dir not in self._asked]
        if runs:
            self._asked.update(runs)
            self.app.run_worker(self._look_and_ask(runs, decide), group="steer")

    async def _look_and_ask(
        self,
        runs: Sequence[RunDir],
        decide: Callable[[list[Look]], Coroutine[Any, Any, list[Step]]],
    ) -> None:
        try:
            looks = await in_background(lambda: [batch.look(run_dir) for run_dir in runs])
            steps = await decide(looks)
            if steps:
                self._tell(await in_background(lambda: batch.take(steps)))
        finally:
            self._asked.difference_update(runs)
            for feed in self._feeds:
                feed.hurry()

    async def _pause(self, looks: list[Look]) -> list[Step]:
        if len(looks) == 1 and batch.is_pausing(looks[0]):
            (look,) = looks
            assert look.seen is not None
            answer = await self.app.push_screen_wait(pausing_dialog(look.run_dir, look.seen))
            match answer:
                case "stage":
                    return batch.pauses(looks, at="stage")
                case "resume":
                    return batch.resumes(looks)
                case _:
                    return []
        if any(batch.can_pause(look) for look in looks):
            return await self._agreed("Pause at the end of the round", batch.pauses(looks))
        return await self._agreed("Go on with", batch.resumes(looks))

    async def _abort(self, looks: list[Look]) -> list[Step]:
        if len(looks) > 1:
            steps = batch.aborts(looks, "now")
            dialog: ChoiceDialog[When] = ChoiceDialog(
                f"Abort {_num_runs(steps)} for good?",
                _names(steps),
                [
                    Choice("r", "each at the end of its round", "round"),
                    Choice("s", "each when its running stage is done", "stage"),
                    Choice("o", "at once: what their running stages did is lost", "now"),
                ],
            )
            answer = await self.app.push_screen_wait(dialog)
            return batch.aborts(looks, answer) if answer else []
        (look,) = looks
        steps = batch.aborts(looks, "now")
        if look.seen is None or not steps[0].is_possible:
            return steps
        when = await self.app.push_screen_wait(abort_dialog(look.run_dir, look.seen))
        return batch.aborts(looks, when) if when else []

    async def _retry(self, looks: list[Look]) -> list[Step]:
        return await self._agreed("Try the failed stage again", batch.retries(looks))

    async def _extend(self, looks: list[Look]) -> list[Step]:
        steps = batch.extensions(looks, 1)
        if not any(step.is_possible for step in steps):
            return steps
        dialog = EntryDialog(
            f"How many more rounds for {_num_runs(steps)}?",
            _names(steps),
            value="1",
            check=check_rounds,
        )
        text = await self.app.push_screen_wait(dialog)
        return batch.extensions(looks, int(text)) if text else []

    async def _agreed(self, question: str, steps: list[Step]) -> list[Step]:
        """The steps, for several runs once the person has seen which these are."""
        if len(steps) < 2 or not any(step.is_possible for step in steps):
            return steps
        dialog = ChoiceDialog(
            f"{question}: {_num_runs(steps)}?", _names(steps), [Choice("y", "yes", answer=True)]
        )
        return steps if await self.app.push_screen_wait(dialog) else []

    def _tell(self, outcomes: Sequence[Outcome]) -> None:
        """One notice, whatever the number of runs."""
        refused = [outcome for outcome in outcomes if not outcome.is_done]
        lines = [f"{visible(outcome.run_dir.name)}: {outcome.text}" for outcome in outcomes]
        if len(outcomes) > 1:
            done = len(outcomes) - len(refused)
            lines.insert(0, f"{done} of {plural(len(outcomes), 'run')} did as asked")
        self.app.notify(
            visible_lines("\n".join(lines)),
            severity="error" if refused else "information",
            markup=False,
            timeout=LONG_S if refused or len(lines) > 1 else None,
        )


def _num_runs(steps: Sequence[Step]) -> str:
    possible = [step for step in steps if step.is_possible]
    return possible[0].run_dir.name if len(steps) == 1 else plural(len(possible), "run")


def _names(steps: Sequence[Step]) -> str:
    """Each run on a line of its own, with what is in the way."""
    if len(steps) == 1:
        return ""
    return "\n".join(
        f"  {step.run_dir.name}{'' if step.is_possible else f': left alone, {step.problem}'}"
        for step in steps
    )
