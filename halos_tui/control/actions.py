"""Owns what a person can do to runs, from the list of runs and from a run's own screen.

`store.request_rules` decides what can be asked; the dialogs word the questions. Every request is
made in a thread, and its answer shown as a notice.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Literal

from halos_backend.errors import UsageError
from halos_backend.store.own_words import NO_WORDS, OwnWords, words_or_problem
from halos_backend.store.requests import At, When
from halos_backend.store.run_dir import RunDir

from halos_tui.actions import Action
from halos_tui.control import batch, offers
from halos_tui.control.batch import ObservedRun, Outcome, PlannedDeletion, PlannedRequest
from halos_tui.control.offers import SeenRun
from halos_tui.control.stopping import abort_times, abort_words, running, stays, stops
from halos_tui.feed import in_background
from halos_tui.formatting import plural, visible, visible_lines
from halos_tui.screens.base import HalosScreen
from halos_tui.screens.dialogs import (
    Choice,
    ChoiceDialog,
    EntriesDialog,
    Entry,
    EntryDialog,
    check_rounds,
)
from halos_tui.terminal.key_order import keys_held
from halos_tui.tracking import rounds
from halos_tui.tracking.status import Observation

LONG_S = 12.0
"""A notice with more than one line stays so long."""
PausingAnswer = Literal["stage", "resume"]
KEYS: dict[When, str] = {"now": "o", "stage": "s", "round": "r"}
"""None is `a`, which opens the dialog, or `n`, which means no."""


class RunActions(HalosScreen):
    """This is a screen about one run or several; each action is about `selected_runs`."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: set[RunDir] = set()

    @abstractmethod
    def selected_runs(self) -> list[RunDir]:
        """Returns what the actions are about."""

    @abstractmethod
    def seen_runs(self) -> list[SeenRun] | None:
        """Returns the same as they were last read; None before that."""

    def why_not(self, action: str) -> str:
        runs = self.seen_runs()
        return "" if runs is None else offers.why_not(action, runs)

    def words_of(self, action: Action) -> tuple[str, str]:
        """Pausing a run that is not at work means to go on with it."""
        if action.id == "pause" and offers.goes_on(self.seen_runs() or ()):
            return offers.GOES_ON
        return super().words_of(action)

    def first_actions(self) -> Sequence[str]:
        return offers.first_actions(self.seen_runs() or ())

    def refuse(self, action: str, why: str) -> None:
        """Asks all the same, for a run may stand otherwise than it was last read."""
        if action in offers.ASKED and self.selected_runs():
            getattr(self, f"action_{action}")()
        else:
            super().refuse(action, why)

    def action_pause(self) -> None:
        """Pauses what runs; where nothing does, goes on."""
        self._ask_runs(self._pause)

    def action_abort(self) -> None:
        self._ask_runs(self._abort)

    def action_retry(self) -> None:
        self._ask_runs(self._retry)

    def action_extend(self) -> None:
        self._ask_runs(self._extend)

    def action_fork(self) -> None:
        if (run_dir := self._only_run()) is not None:
            self.halos.open_fork(run_dir)

    def action_tweak(self) -> None:
        if (run_dir := self._only_run()) is not None:
            self.halos.open_tweak(run_dir)

    def action_own_words(self) -> None:
        if runs := self.selected_runs():
            self.app.run_worker(self._write_words(runs), group="words", exclusive=True)

    def action_delete(self) -> None:
        """Deletes runs that are at rest, once a person has seen what is lost."""
        runs = [run_dir for run_dir in self.selected_runs() if run_dir not in self._asked]
        if runs:
            self._asked.update(runs)
            self.app.run_worker(self._delete(runs), group="ask")

    def action_new_run(self) -> None:
        """Opens a new run, on a run's own screen with the settings of that run."""
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

    def _ask_runs(
        self, decide: Callable[[list[ObservedRun]], Coroutine[Any, Any, list[PlannedRequest]]]
    ) -> None:
        """Observes, decides with the person, asks, tells. A second press meanwhile does nothing."""
        runs = [run_dir for run_dir in self.selected_runs() if run_dir not in self._asked]
        if runs:
            self._asked.update(runs)
            self.app.run_worker(self._observe_and_ask(runs, decide), group="ask")

    async def _observe_and_ask(
        self,
        runs: Sequence[RunDir],
        decide: Callable[[list[ObservedRun]], Coroutine[Any, Any, list[PlannedRequest]]],
    ) -> None:
        try:
            with keys_held(self.app):
                observed = await in_background(
                    lambda: [batch.observe_run(run_dir) for run_dir in runs]
                )
                planned = await decide(observed)
            if planned:
                self._tell(await in_background(lambda: batch.send(planned)))
        finally:
            self._asked.difference_update(runs)
            for feed in self._feeds:
                feed.hurry()

    async def _pause(self, observed: list[ObservedRun]) -> list[PlannedRequest]:
        if len(observed) == 1 and batch.is_pausing(observed[0]):
            (run,) = observed
            assert run.seen is not None
            answer = await self.app.push_screen_wait(pausing_dialog(run.run_dir, run.seen))
            match answer:
                case "stage":
                    return batch.pauses(observed, at="stage")
                case "resume":
                    return batch.resumes(observed)
                case _:
                    return []
        if any(batch.can_pause(run) for run in observed):
            at = await self.app.push_screen_wait(pause_dialog(observed))
            return batch.pauses(observed, at) if at else []
        return await self._agreed("Go on with", batch.resumes(observed))

    async def _abort(self, observed: list[ObservedRun]) -> list[PlannedRequest]:
        if len(observed) > 1:
            planned = batch.aborts(observed, "now")
            dialog: ChoiceDialog[When] = ChoiceDialog(
                f"Abort {_num_runs(planned)} for good?",
                _names(planned),
                [
                    Choice("r", "each at the end of its round", "round"),
                    Choice("s", "each when its running stage is done", "stage"),
                    Choice("o", "at once: what their running stages did is lost", "now"),
                ],
            )
            answer = await self.app.push_screen_wait(dialog)
            return batch.aborts(observed, answer) if answer else []
        (run,) = observed
        planned = batch.aborts(observed, "now")
        if run.seen is None or not planned[0].is_possible:
            return planned
        when = await self.app.push_screen_wait(abort_dialog(run.run_dir, run.seen))
        return batch.aborts(observed, when) if when else []

    async def _retry(self, observed: list[ObservedRun]) -> list[PlannedRequest]:
        return await self._agreed("Try the failed stage again", batch.retries(observed))

    async def _extend(self, observed: list[ObservedRun]) -> list[PlannedRequest]:
        planned = batch.extensions(observed, 1)
        if not any(plan.is_possible for plan in planned):
            return planned
        dialog = EntryDialog(
            f"How many more rounds for {_num_runs(planned)}?",
            _names(planned),
            value="1",
            check=check_rounds,
        )
        text = await self.app.push_screen_wait(dialog)
        return batch.extensions(observed, int(text)) if text else []

    async def _agreed(self, question: str, planned: list[PlannedRequest]) -> list[PlannedRequest]:
        """Returns the requests, for several runs once the person has seen which runs these are."""
        if len(planned) < 2 or not any(plan.is_possible for plan in planned):
            return planned
        dialog = ChoiceDialog(
            f"{question}: {_num_runs(planned)}?", _names(planned), [Choice("y", "yes", answer=True)]
        )
        return planned if await self.app.push_screen_wait(dialog) else []

    async def _delete(self, runs: Sequence[RunDir]) -> None:
        try:
            with keys_held(self.app):
                planned = await in_background(lambda: batch.plan_deletions(runs))
                possible = [plan.run_dir for plan in planned if not plan.problem]
                if not possible:
                    self._tell([Outcome(plan.run_dir, plan.problem, False) for plan in planned])
                elif not await self.app.push_screen_wait(deletion_dialog(planned)):
                    return
            if possible:
                self._tell(await in_background(lambda: batch.delete(possible)))
        finally:
            self._asked.difference_update(runs)
            for feed in self._feeds:
                feed.hurry()

    async def _write_words(self, runs: Sequence[RunDir]) -> None:
        """Asks for title, note and tags of a run; of several for tags to add or to take away."""
        with keys_held(self.app):
            words, problem = await in_background(lambda: words_or_problem(runs[0]))
            dialog = words_dialog(runs[0], words, problem) if len(runs) == 1 else tags_dialog(runs)
            texts = await self.app.push_screen_wait(dialog)
            if texts is None:
                return
            change = partial(words_of, texts)
            is_told = len(runs) == 1  # the dialog about one run says what is lost with damage
            outcomes = await in_background(
                lambda: batch.write_words(runs, change, replaces_damage=is_told)
            )
        if any(not outcome.is_done for outcome in outcomes):
            self._tell(outcomes)
        for feed in self._feeds:
            feed.hurry()

    def _tell(self, outcomes: Sequence[Outcome]) -> None:
        """Shows one notice, whatever the number of runs."""
        refused = [outcome for outcome in outcomes if not outcome.is_done]
        lines = [f"{visible(outcome.run_dir.name)}: {outcome.text}" for outcome in outcomes]
        if len(outcomes) > 1:
            done = len(outcomes) - len(refused)
            lines.insert(0, f"{done} of {plural(len(outcomes), 'run')} did as asked")
        self.app.notify(
            visible_lines(self.in_keys("\n".join(lines))),
            severity="error" if refused else "information",
            markup=False,
            timeout=LONG_S if refused or len(lines) > 1 else None,
        )


def abort_dialog(run_dir: RunDir, seen: Observation) -> ChoiceDialog[When]:
    """Says what stops, what stays, and when; the latest comes first, since it loses least."""
    return ChoiceDialog(
        f"Abort {run_dir.name} for good?",
        f"{stops(seen)}\n{stays(run_dir, seen)}",
        [Choice(KEYS[when], abort_words(when, seen), when) for when in reversed(abort_times(seen))],
    )


def pause_dialog(observed: Sequence[ObservedRun]) -> ChoiceDialog[At]:
    """Asks where runs pause, so that no key pressed by mistake leaves a GPU idle for a night."""
    planned = batch.pauses(observed)
    text = _names(planned) or "It goes on later at the exact stage; nothing is lost."
    return ChoiceDialog(
        f"Pause {_num_runs(planned)}?",
        text,
        [Choice(KEYS[at], words, at) for at, words in _pause_places(observed).items()],
        stay="let it go on" if len(planned) == 1 else "let them go on",
    )


def _pause_places(observed: Sequence[ObservedRun]) -> dict[At, str]:
    if len(observed) > 1:
        return {
            "round": "each at the end of its round",
            "stage": "each when its running stage is done",
        }
    seen = observed[0].seen
    assert seen is not None
    places: dict[At, str] = {"round": rounds.next_boundary(seen.state, "round")}
    if running(seen):
        places["stage"] = f"sooner: {rounds.next_boundary(seen.state, 'stage')}"
    return places


def pausing_dialog(run_dir: RunDir, seen: Observation) -> ChoiceDialog[PausingAnswer]:
    """Asks about a run that pauses already."""
    choices: list[Choice[PausingAnswer]] = [Choice("g", "go on after all", "resume")]
    if seen.state.pause_at == "round" and (now := running(seen)):
        choices.append(Choice("s", f"pause sooner: when {now} is done", "stage"))
    where = rounds.boundary(seen.state) or "at the next boundary"
    return ChoiceDialog(f"{run_dir.name} pauses {where}", "", choices)


def deletion_dialog(planned: Sequence[PlannedDeletion]) -> ChoiceDialog[bool]:
    """Says what is lost. Its key is not the one that opens it, so that no key pressed twice
    deletes.
    """
    possible = [plan for plan in planned if not plan.problem]
    what = possible[0].run_dir.name if len(planned) == 1 else plural(len(possible), "run")
    names = [
        f"{plan.run_dir.name}: {plan.lost or f'left alone, {plan.problem}'}" for plan in planned
    ]
    lost = f"This is lost: {possible[0].lost}." if len(planned) == 1 else "\n".join(names)
    return ChoiceDialog(
        f"Delete {what} for good?", lost, [Choice("x", "delete all of it", answer=True)]
    )


def _num_runs(planned: Sequence[PlannedRequest]) -> str:
    possible = [plan for plan in planned if plan.is_possible]
    return possible[0].run_dir.name if len(planned) == 1 else plural(len(possible), "run")


def _names(planned: Sequence[PlannedRequest]) -> str:
    """Names each run on a line of its own, with what is in the way."""
    if len(planned) == 1:
        return ""
    return "\n".join(
        f"  {plan.run_dir.name}{'' if plan.is_possible else f': left alone, {plan.problem}'}"
        for plan in planned
    )


def words_dialog(run_dir: RunDir, words: OwnWords, problem: str) -> EntriesDialog:
    """Asks for a person's own words about a run. What cannot be read is replaced."""
    lost = f"What is there is lost: {problem}" if problem else ""
    entries = [
        Entry("title, beside its name", visible(words.title)),
        Entry("note", visible(words.note)),
        Entry("tags", visible(" ".join(words.tags)), "baseline paper"),
    ]
    return EntriesDialog(f"Your words about {run_dir.name}", lost, entries, check_words)


def tags_dialog(runs: Sequence[RunDir]) -> EntriesDialog:
    names = "\n".join(f"  {run_dir.name}" for run_dir in runs)
    entries = [Entry("tags to add; -old takes the tag old away", "", "baseline -old")]
    return EntriesDialog(f"Tag {plural(len(runs), 'run')}", names, entries, check_words)


def words_of(texts: tuple[str, ...], words: OwnWords) -> OwnWords:
    """Returns a run's words after what was typed into a dialog. Raises UsageError."""
    if len(texts) == 1:
        typed = texts[0].split()
        fewer = tuple(tag[1:] for tag in typed if tag.startswith("-"))
        return words.tagged(
            more=tuple(tag for tag in typed if not tag.startswith("-")), fewer=fewer
        )
    title, note, tags = texts
    return NO_WORDS.with_title(title).with_note(note).tagged(more=tuple(tags.split()))


def check_words(texts: tuple[str, ...]) -> str:
    try:
        words_of(texts, NO_WORDS)
    except UsageError as error:
        return str(error)
    return ""
