"""Changes a run's settings from a round on: the form, what follows, the command, the request.

The app calls what reads files or asks a supervisor in threads only. What changed settings cost in
each round is estimated from how long the rounds so far took.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from halos_backend.config.changes import FIXED, change_settings, is_fixed, refuse_for_begun_round
from halos_backend.config.load import defaults_taken
from halos_backend.config.needs import example_noun, examples_per_round
from halos_backend.config.schema import RunSettings
from halos_backend.config.wording import Problem
from halos_backend.errors import HalosError
from halos_backend.events import STAGES, Stage
from halos_backend.settings_json import (
    Changes,
    LastChange,
    changed_last,
    is_at_or_below,
    last_changes,
    value_at,
)
from halos_backend.store.request_rules import refusal, round_to_change
from halos_backend.store.requests import Set
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState

from halos_tui.commands import command_for
from halos_tui.control import batch, requests
from halos_tui.formatting import count, rough_duration
from halos_tui.settings.form import Check, Checked, SettingsForm, checked
from halos_tui.settings.rows import Row, shown_text
from halos_tui.tracking.eta import stage_times

LEAST_SHARE = 0.02
"""A round that takes more or less by a smaller share than this is as long as before."""


@dataclass(frozen=True)
class Tweak:
    """Says from which round on a run's settings are to change. `chosen` is what the person
    named.
    """

    run_dir: RunDir
    state: RunState
    chosen: int | None = None

    @property
    def from_round(self) -> int:
        """Returns the first round that the change is meant for."""
        return round_to_change(self.state, self.chosen)

    @property
    def first_round(self) -> int:
        """Returns the first round that a person can choose."""
        at_hand = self.state.round_at_hand
        return self.state.num_rounds + 1 if self.why_not_from(at_hand) else at_hand

    def why_not_from(self, round: int) -> str:
        """Says why no change can hold from that round on; "" where one can."""
        return _why_refused(self.state, self.run_dir, from_round=round)

    def form(self) -> SettingsForm:
        """Returns the form of a run whose settings can be changed, see `why_not_tweak`."""
        base = self.state.settings_of(self.from_round)
        now = self.state.settings_of(max(1, self.state.num_rounds))
        return SettingsForm(
            base,
            self.check(base),
            now=now,
            from_round=self.from_round,
            why_fixed=why_fixed,
            note=self.note,
        )

    @cached_property
    def last_changes(self) -> Mapping[str, LastChange]:
        """Returns the newest change of each setting, one that waits for its round included."""
        return last_changes(self.state.settings, self.state.changes)

    def note(self, row: Row) -> str:
        """Says what a setting was before its newest change, or will be when that waits.

        It is "" where nothing changed. Of a table that was changed as a whole its kind says it.
        """
        found = changed_last(row.path, self.last_changes)
        change = found.get(row.path) or (found.get(row.table) if row.name == "kind" else None)
        if change is None:
            return ""
        if change.from_round > self.from_round:
            waiting = value_at(row.path, self.state.settings_of(change.from_round))
            return f"{shown_text(row, waiting)} from round {change.from_round} on"
        is_table = row.path not in found and isinstance(change.before, Mapping)
        before = change.before.get("kind") if is_table else change.before
        return f"{shown_text(row, before)} before round {change.from_round}"

    def check(self, base: dict[str, object]) -> Check:
        def look(assignments: Sequence[str]) -> Checked:
            if not assignments:
                return Checked(settings=base)
            return checked(lambda: self._check(base, assignments))

        return look

    def command(self, assignments: Sequence[str]) -> str:
        """Returns what does the same in a shell."""
        round = () if self.chosen is None else ("--from-round", str(self.chosen))
        return command_for(self.run_dir, "set", *assignments, *round)

    def apply(
        self, assignments: Sequence[str], *, from_round: int | None, and_resume: bool = False
    ) -> str:
        """Sends the request; says what came of it. Raises HalosError where it is refused."""
        said = []
        if assignments:
            seen = requests.look(self.run_dir)
            request = requests.set_request(self.run_dir, seen, assignments, from_round)
            said.append(batch.say(self.run_dir, requests.ask(self.run_dir, request)))
        if and_resume:
            said.append(resume(self.run_dir))
        return "; ".join(said)

    def _check(self, base: dict[str, object], assignments: Sequence[str]) -> Checked:
        change, said = change_settings(base, assignments, directory=Path.cwd()), []
        round = self.from_round
        if late := self._too_late(change.changes):
            if self.chosen is not None:
                return Checked(problems=tuple(late))
            said = [f"round {round} has done too much already to change that"]
            round = self.state.num_rounds + 1
            base = self.state.settings_of(round)
            change = change_settings(base, assignments, directory=Path.cwd())
        consequences = (
            *said,
            *self._taken_back(change.changes, round),
            *defaults_taken(assignments, change.settings),
            *change.consequences,
            *describe_cost(self.state, base, change.settings),
        )
        return Checked(consequences=consequences, settings=change.settings, from_round=round)

    def _taken_back(self, changes: Changes, round: int) -> Iterator[str]:
        """Says which of the changes bring back what held before another one."""
        due = [change for change in self.state.changes if change.from_round <= round]
        last = last_changes(self.state.settings, due)
        for path, (_, now) in changes.items():
            if path in last and last[path].before == now:
                yield f"{path} is what it was before round {last[path].from_round}"

    def _too_late(self, changes: dict[str, tuple[object, object]]) -> list[Problem]:
        """Returns what the round cannot do otherwise any more, if it has begun."""
        round = self.from_round
        if round > self.state.num_rounds:
            return []
        stages = self.state.rounds[round - 1].stages
        done = {name for name, stage in stages.items() if stage.status == "finished"}
        return refuse_for_begun_round(changes, done=done, round=round)


def why_fixed(path: str) -> str:
    """Says why a setting holds for the run's life; "" for one that does not."""
    if not is_fixed(path):
        return ""
    reason = next(why for name, why in FIXED.items() if is_at_or_below(path, name))
    return f"fixed for the run's life, since {reason}"


def why_not_tweak(state: RunState, run_dir: RunDir) -> str:
    """Says why nothing can be changed any more; "" while something can."""
    return _why_refused(state, run_dir, from_round=None)


def _why_refused(state: RunState, run_dir: RunDir, *, from_round: int | None) -> str:
    change = Set(request_id="", assignments=(), from_round=from_round)
    refused = refusal(change, state, run_dir)
    return "" if refused is None else str(refused)


def resume(run_dir: RunDir) -> str:
    """Goes on with a run that stopped; says what came of it. Raises HalosError where it cannot."""
    (outcome,) = batch.send(batch.resumes([batch.observe_run(run_dir)]))
    if not outcome.is_done:
        raise HalosError(outcome.text)
    return outcome.text


def describe_cost(state: RunState, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Says `a round has at most 1,024 pairs instead of 512`, `a round takes about 9m more ...`.

    Both settings are whole and valid. Nothing is said of what stays the same, or is not known.
    """
    old, new = RunSettings.model_validate(before), RunSettings.model_validate(now)
    return [*_examples(old, new), *_time(state, old, new)]


def _examples(old: RunSettings, new: RunSettings) -> list[str]:
    was, becomes = examples_per_round(old), examples_per_round(new)
    if (was, example_noun(old)) == (becomes, example_noun(new)):
        return []
    of_old = (
        count(was)
        if example_noun(old) == example_noun(new)
        else f"{count(was)} {example_noun(old)}"
    )
    return [f"a round has at most {count(becomes)} {example_noun(new)} instead of {of_old}"]


def _time(state: RunState, old: RunSettings, new: RunSettings) -> list[str]:
    was = becomes = 0.0
    for stage in STAGES:
        times = stage_times(state, stage)
        if not times:
            return []
        # stage_times are for as many prompts as the newest round had
        scale = old.loop.prompts_per_round / state.rounds[-1].num_prompts
        mean = statistics.fmean(times) * scale
        was += mean
        becomes += mean * _work(stage, new) / _work(stage, old)
    if abs(becomes - was) <= LEAST_SHARE * was:
        return []
    more = "more" if becomes > was else "less"
    return [
        f"a round takes about {rough_duration(abs(becomes - was))} {more}"
        f" ({rough_duration(becomes)} instead of {rough_duration(was)}), as the rounds so far went"
    ]


def _work(stage: Stage, settings: RunSettings) -> float:
    """Returns what the stage's time is taken to grow with."""
    completions = settings.loop.prompts_per_round * settings.sample.group_size
    match stage:
        case "sample" | "label":
            return float(completions)
        case "train":
            return float(examples_per_round(settings) * settings.train.num_epochs)
