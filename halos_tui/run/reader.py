"""Reads one run for its screen, in the feed's thread: files in, a frozen `RunView` out.

Each part is made anew only when it changed, and no more often than a person can use. The output
is that of the stage that runs, or ran last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from halos_backend import clock
from halos_backend.events import STAGES, Stage
from halos_backend.store.attempt_state import LiveStage
from halos_backend.store.liveness import describe_stall
from halos_backend.store.request_rules import standing_of
from halos_backend.store.round_state import RoundState
from halos_backend.store.run_dir import RunDir
from halos_backend.store.run_summary import planned_rounds
from halos_backend.store.state import AT_WORK, ENDED, RunState

from halos_tui.formatting import rough_clock
from halos_tui.logs.blocks import LogSizes
from halos_tui.logs.file import LogFile
from halos_tui.run.curves import RunCurves
from halos_tui.run.machine import MachineHistory
from halos_tui.run.notices import JournalNotices, StageEvents, all_notices, hint_for
from halos_tui.run.round_book import RoundBook
from halos_tui.run.says import Says
from halos_tui.run.view import (
    DistributionView,
    EventsView,
    HeaderView,
    Notice,
    ProgressView,
    RunView,
    StageView,
    StepView,
)
from halos_tui.tracking import rounds
from halos_tui.tracking.attempt_tail import AttemptTail, Key, work_at_hand
from halos_tui.tracking.eta import (
    SCORING_STAGES,
    Forecast,
    forecast,
    from_times,
    num_rounds_left,
    run_share,
    stage_times,
)
from halos_tui.tracking.rounds import place
from halos_tui.tracking.state_tail import StateTail
from halos_tui.tracking.status import Supervision, supervision_of

STAGE_EVERY_S = 0.5
REST_EVERY_S = 1.0

NUM_LINES = 60
MOST_CHARACTERS = 400
SIZES = LogSizes(block=1 << 14, shown=1 << 12)


class RunReader:
    """Reads one run. `select` and `take_next_prompt` may be called from another thread than `read`.

    `keys` are those of the actions by which a person can steer the run, for its hints; `in_keys`
    words the commands in what is told of the run. A brief reader leaves out train curves, output of
    stages, and what the machine does.
    """

    keys: Mapping[str, str] = MappingProxyType({})
    in_keys: Callable[[str], str] = staticmethod(str)

    def __init__(self, run_dir: RunDir, *, is_brief: bool = False) -> None:
        self.run_dir = run_dir
        self._is_brief = is_brief
        self._tail = StateTail(run_dir)
        self._book = RoundBook()
        self._told = JournalNotices()
        self._machine = MachineHistory(run_dir)
        self._curves = RunCurves(run_dir, self._book)
        self._output = RunOutput(run_dir)
        self._events = StageEvents()
        self._says = Says(run_dir)
        self._attempts: dict[Key, AttemptTail] = {}
        self._followed: list[AttemptTail] = []
        """Beside those that run it has those that ended just now, for their last words."""
        self._attempt_numbers: dict[Key, int] = {}
        self._supervision = Supervision(None)
        self._progress = ProgressView()
        self._forecast = Forecast({})
        self._distribution: DistributionView | None = None
        self._drawn: tuple[object, ...] = ()
        self._selected: int | None = None
        self._stage_due = 0.0
        self._rest_due = 0.0
        self._view: RunView | None = None

    def select(self, round: int | None) -> None:
        """Selects the round whose distribution and curves are shown; None selects the newest."""
        self._selected = round

    def take_next_prompt(self) -> None:
        """Turns to the next prompt of what the policy says."""
        self._says.number += 1

    def read(self) -> RunView | None:
        """Returns the view, or None where it is the same as before.

        Raises HalosError where the run is gone, or where its journal cannot be read.
        """
        selected = self._selected
        events = self._tail.read()
        self._told.add(events)
        is_new = self._book.update(self._tail.state)
        if is_new:
            self._says.turn_to(self._tail.state)
        self._tail.forget_old_rounds()
        state = self._tail.state
        is_new = self._follow_attempts(state) or is_new
        told = [event for tail in self._followed for event in tail.take_told()]
        self._events.add([*told, *events], state, self.in_keys)
        self._look_around(state, selected, at_once=is_new or self._view is None)
        view = self._make(state, selected)
        if view == self._view:
            return None
        self._view = view
        return view

    def _follow_attempts(self, state: RunState) -> bool:
        """Says whether a stage began or ended."""
        running = {
            (round, stage): state.rounds[round - 1].stages[stage].attempt
            for round, stage in state.active
        }
        is_new = running != self._attempt_numbers
        self._followed = [*self._attempts.values()]
        if is_new:
            self._attempts = {
                key: self._attempts[key]
                if self._attempt_numbers.get(key) == attempt
                else AttemptTail(self.run_dir.attempt(*key, attempt))
                for key, attempt in running.items()
            }
            self._attempt_numbers = running
        self._followed = [*dict.fromkeys([*self._followed, *self._attempts.values()])]
        for tail in self._followed:
            tail.read()
        return is_new

    def _look_around(self, state: RunState, selected: int | None, *, at_once: bool) -> None:
        """Reads all that is read only once in a while."""
        now = clock.monotonic()
        if at_once or now >= self._stage_due:
            self._stage_due = now + STAGE_EVERY_S
            self._progress = self._how_far(state)
        if at_once or now >= self._rest_due:
            self._rest_due = now + REST_EVERY_S
            self._supervision = supervision_of(self.run_dir)
            if not self._is_brief:
                self._machine.read(is_due=state.status in AT_WORK)
                self._output.read(state)
                self._curves.refresh()
            self._says.read()
        elif self._says.is_due:
            self._says.read()
        if not self._is_brief:
            self._curves.select(selected, self._attempts)

    def _how_far(self, state: RunState) -> ProgressView:
        work = work_at_hand(state, self._attempts)
        ahead = self._forecast = forecast(state, work)
        now = clock.now()
        left = num_rounds_left(state)
        is_at_work = state.status in AT_WORK
        return ProgressView(
            round=state.num_rounds,
            num_rounds=planned_rounds(state),
            share=run_share(state, work),
            run_eta=ahead.run,
            ends="" if ahead.run is None else rough_clock(now + ahead.run.mean_s, now),
            place=place(state, state.rounds[-1].round) if state.rounds else "",
            steps=steps_of(state, now, is_last=left == 0),
            round_eta=ahead.round,
            stages=tuple(self._stage_view(state, key) for key in self._attempts),
            is_at_work=is_at_work,
        )

    def _stage_view(self, state: RunState, key: Key) -> StageView:
        round, stage = key
        live = self._attempts[key].live
        started = state.rounds[round - 1].stages[stage].started_t
        return StageView(
            round=round,
            stage=stage,
            attempt=self._attempt_numbers[key],
            phase=live.phase,
            place=rounds.place(state, round),
            elapsed_s=int(max(0.0, clock.now() - started)),
            done=live.done,
            total=live.total,
            unit=live.unit,
            prompts=prompts_done(state.rounds[round - 1].num_prompts, live),
            rate=live.rate,
            eta=self._forecast.stages.get(key),
            step=live.step,
            metrics=tuple(live.metrics.items()),
        )

    def _make(self, state: RunState, selected: int | None) -> RunView:
        return RunView(
            header=self._header(state),
            standing=standing_of(state),
            progress=self._progress,
            rounds=self._book.view,
            rewards=self._book.rewards,
            distribution=self._distribution_of(selected),
            curves=self._curves.view,
            machine=self._machine.view,
            events=replace(self._output.view, events=self._events.events, now=self._events.now),
            says=self._says.view,
            notices=self._notices(state, selected),
            cost=self._book.cost,
        )

    def _header(self, state: RunState) -> HeaderView:
        status = self._supervision.status_of(state)
        told = (state.reason, rounds.boundary(state), rounds.final_score(state))
        return HeaderView(
            name=state.run,
            status=status,
            loss=rounds.loss_kind(state),
            round=state.num_rounds,
            num_rounds=planned_rounds(state),
            elapsed_s=int(state.elapsed_s(clock.now())),
            reason=self.in_keys("; ".join(filter(None, told))),
            hint=hint_for(status, self.keys),
            pending=()
            if state.status in ENDED
            else tuple(map(rounds.describe_change, rounds.pending_changes(state))),
        )

    def _distribution_of(self, selected: int | None) -> DistributionView | None:
        about = (selected, self._book.view)
        if self._drawn != about:
            self._drawn = about
            self._distribution = self._book.distribution(selected)
        return self._distribution

    def _notices(self, state: RunState, selected: int | None) -> tuple[Notice, ...]:
        of_stages = [
            Notice("warning", f"{rounds.place(state, round)} {stage}: {text}")
            for (round, stage), tail in self._attempts.items()
            for text in reversed((*tail.live.warnings, *filter(None, [tail.problem])))
        ]
        found = all_notices(
            state,
            journal=self._told.notices,
            rows=self._book.view.rows,
            selected=None if selected is None else self._book.row(selected),
            stages=of_stages,
            supervisor=self._stalled(),
        )
        return tuple(replace(notice, text=self.in_keys(notice.text)) for notice in found)

    def _stalled(self) -> Notice | None:
        supervisor, stalled_s = self._supervision.supervisor, self._supervision.stalled_s
        if supervisor is None or stalled_s is None:
            return None
        return Notice("bad", describe_stall(self.run_dir, supervisor, stalled_s // 10 * 10))


class RunOutput:
    """`view` is as of the last `read`."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._about: tuple[int, str, int] | None = None
        self._file: LogFile | None = None
        self._seen: tuple[int, int] | None = None
        self.view = EventsView()

    def read(self, state: RunState) -> None:
        self._turn_to(state)
        if self._file is None or self._about is None:
            return
        status = self._file.refresh()
        seen = (status.generation, status.num_bytes)
        if seen == self._seen and status.problem == self.view.problem:
            return
        self._seen = seen
        round, stage, attempt = self._about
        again = f", attempt {attempt}" if attempt > 1 else ""
        lines = [line.text[:MOST_CHARACTERS] for line in self._file.last_page(NUM_LINES)]
        self.view = EventsView(
            title=f"{stage} of {place(state, round)}{again}",
            output=tuple(lines),
            problem=status.problem,
        )

    def _turn_to(self, state: RunState) -> None:
        """Turns to the newest attempt of all."""
        attempts = [
            (stage.started_t, (round.round, stage.stage, stage.attempt))
            for round in state.rounds[-2:]
            for stage in round.stages.values()
        ]
        about = max(attempts)[1] if attempts else None
        if about == self._about:
            return
        self._about, self._seen = about, None
        if self._file is not None:
            self._file.close()
        self._file = None
        if about is not None:
            self._file = LogFile(self._run_dir.attempt(*about).log, sizes=SIZES)


def steps_of(state: RunState, now: float, *, is_last: bool) -> tuple[StepView, ...]:
    """Returns the stages of the round at hand; the last round's end with scoring the result."""
    if not state.rounds:
        return ()
    round = state.rounds[-1]
    stages = STAGES if round.closing is None else SCORING_STAGES
    steps = [_step(state, round, stage, now) for stage in stages]
    is_scored = round.settings.get("loop", {}).get("score_final") is not False
    has_prompts = state.num_held_out > 0 or state.cursor < state.num_prompts
    if is_last and round.closing is None and is_scored and has_prompts:
        steps.append(StepView("score", "waiting"))
    return tuple(steps)


def _step(state: RunState, round: RoundState, stage: Stage, now: float) -> StepView:
    found = round.stages.get(stage)
    usual = from_times(stage_times(state, stage))
    if found is None:
        return StepView(stage, "waiting", usual_s=None if usual is None else usual.mean_s)
    match found.status:
        case "finished":
            return StepView(stage, "done", found.elapsed_s)
        case "running":
            return StepView(stage, "running", float(int(max(0.0, now - found.started_t))))
        case "failed":
            return StepView(stage, "failed")


def prompts_done(num_prompts: int, live: LiveStage) -> tuple[int, int] | None:
    """Counts prompts where completions are counted, as many for each."""
    if live.unit != "completions" or num_prompts < 1 or live.total % num_prompts or not live.total:
        return None
    return live.done * num_prompts // live.total, num_prompts
