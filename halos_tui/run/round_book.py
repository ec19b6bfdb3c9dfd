"""Keeps what a screen shows of each round, once, as small as it can be."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace

from halos_backend.events import STAGES
from halos_backend.events.summaries import LabelSummary, RewardHistogram
from halos_backend.store.round_state import RoundState
from halos_backend.store.standard_error import Reward, reward_of
from halos_backend.store.state import RunState

from halos_tui.charts.distribution import QUANTILES, Distribution
from halos_tui.formatting import FigureLook, denomination, percent, plural
from halos_tui.run.view import (
    CostView,
    CurveView,
    DistributionView,
    Notice,
    RewardStatistics,
    RewardView,
    RoundRow,
    RoundsView,
)
from halos_tui.tracking import rounds
from halos_tui.tracking.eta import busy_s
from halos_tui.tracking.state_tail import NUM_WHOLE

TRUNCATED_LIMIT = 0.2
"""A greater share of completions that were cut off is worth a warning."""


class RoundBook:
    """Holds one row a round. A state is read only where its rounds are new or changed.

    All but its last `NUM_WHOLE` rounds may be forgotten after that.
    """

    def __init__(self) -> None:
        self._rows: list[RoundRow] = []
        self._rewards: list[Reward | None] = []
        self._costs: list[CostView] = []
        self._newest: tuple[RoundState, ...] = ()
        self.view = RoundsView(widths=tuple(map(len, rounds.HEADER)))
        self.rewards = RewardView()
        self._looks: tuple[FigureLook | None, ...] = ()

    def update(self, state: RunState) -> bool:
        """Takes in a state; says whether anything is new."""
        first = self._first_changed(state.rounds)
        if first is None:
            return False
        del self._rows[first:], self._rewards[first:], self._costs[first:]
        for round in state.rounds[first:]:
            self._write(round)
        self._newest = state.rounds[-NUM_WHOLE:]
        looks = rounds.looks_of([row.cells for row in self._rows[-rounds.NUM_ROUNDS_THAT_COUNT :]])
        if looks != self._looks:
            self._looks, first = looks, 0
        self.view = RoundsView(tuple(self._rows), self._widths(first), self._looks)
        self.rewards = _reward_view(self._rows)
        return True

    @property
    def cost(self) -> CostView:
        """Returns what all rounds took."""
        return self._costs[-1] if self._costs else CostView()

    def row(self, round: int) -> RoundRow | None:
        return self._rows[round - 1] if 1 <= round <= len(self._rows) else None

    @property
    def newest_trained(self) -> RoundRow | None:
        """Returns the last round whose training has begun."""
        return next((row for row in reversed(self._rows) if row.train_attempt is not None), None)

    def distribution(self, round: int | None) -> DistributionView | None:
        """Returns the rewards of that round, or the newest labelled one, with the first that is
        labelled.
        """
        first = next((row for row in self._rows if row.rewards is not None), None)
        row = self._newest_labelled() if round is None else self.row(round)
        if first is None or row is None:
            return None
        now, then = _distribution(row), _distribution(first)
        return DistributionView(row.round, now, None if row is first else then)

    def kl_by_round(self) -> CurveView | None:
        """Returns the KL to the initial policy, over the rounds that have it."""
        known = [(row.round, row.kl_initial, row.kl_initial_stderr or 0.0) for row in self._rows]
        points = [(x, kl, kl - error, kl + error) for x, kl, error in known if kl is not None]
        if not points:
            return None
        xs, ys, lows, highs = (array("d", column) for column in zip(*points, strict=True))
        return CurveView("kl_initial", "KL by round", xs, ys, lows, highs, is_by_round=True)

    def _newest_labelled(self) -> RoundRow | None:
        return next((row for row in reversed(self._rows) if row.rewards is not None), None)

    def _first_changed(self, now: Sequence[RoundState]) -> int | None:
        """Returns the index of the first round that is not as it was written down."""
        start = len(self._rows) - len(self._newest)
        for index, before in enumerate(self._newest, start):
            if index >= len(now) or now[index] is not before:
                return index
        return len(self._rows) if len(now) > len(self._rows) else None

    def _write(self, round: RoundState) -> None:
        now, before = reward_of(round), next(filter(None, reversed(self._rewards)), None)
        change = rounds.reward_change(round, before)
        train, trained = round.stages.get("train"), round.train_summary
        cells = rounds.cells_of(round, change)
        self._rewards.append(now)
        self._costs.append(self.cost + _cost_of(round))
        self._rows.append(
            RoundRow(
                round=round.round,
                cells=replace(cells, texts=tuple(map(sys.intern, cells.texts))),
                change=0 if change is None else change.direction,
                rewards=_statistics(round.label_summary, now),
                kl_initial=trained.kl_initial,
                kl_initial_stderr=trained.kl_initial_stderr,
                train_attempt=None if train is None else train.attempt,
                is_running=round.active is not None,
                is_closing=round.closing is not None,
                notices=tuple(_notices(round)),
            )
        )

    def _widths(self, first: int) -> tuple[int, ...]:
        """Returns the widths of columns, never less than before, so that nothing moves."""
        rows = self._rows[first:]
        return tuple(
            max([width, *(len(rounds.text_of(row.cells, column, self._looks)) for row in rows)])
            for column, width in enumerate(self.view.widths)
        )


def _cost_of(round: RoundState) -> CostView:
    devices = round.settings.get("launch", {}).get("devices") or ()
    finished = [stage.summary for stage in round.stages.values() if stage.status == "finished"]
    return CostView(
        sampled_tokens=round.sample_summary.num_tokens or 0,
        trained_tokens=round.train_summary.num_tokens or 0,
        gpu_s=len(devices) * busy_s(round),
        gpu_energy_j=sum(summary.gpu_energy_j or 0.0 for summary in finished),
    )


def _statistics(label: LabelSummary, reward: Reward | None) -> RewardStatistics | None:
    """Returns None where nothing is labelled yet, or nothing could be scored."""
    if reward is None:
        return None
    histogram = label.reward_histogram or RewardHistogram()
    quantiles = (
        label.reward_q05,
        label.reward_q25,
        label.reward_q50,
        label.reward_q75,
        label.reward_q95,
    )
    return RewardStatistics(
        mean=reward.mean,
        stderr=_float(reward.stderr),
        quantiles=array("f", [_float(value) for value in quantiles]),
        edges=array("f", histogram.edges),
        counts=array("f", histogram.counts),
    )


def _distribution(row: RoundRow) -> Distribution | None:
    if row.rewards is None:
        return None
    quantiles = dict(zip(QUANTILES, row.rewards.quantiles, strict=True))
    known = {name: value for name, value in quantiles.items() if math.isfinite(value)}
    name = rounds.FINAL if row.is_closing else f"round {row.round}"
    return Distribution(name, row.rewards.edges, row.rewards.counts, known)


def _reward_view(rows: Sequence[RoundRow]) -> RewardView:
    """Returns the mean rewards; a round without rewards is a gap."""
    found = [(row.rewards.mean, row.rewards.stderr) if row.rewards else None for row in rows]
    while found and found[-1] is None:
        found.pop()
    is_share = {row.cells.is_share for row in rows} - {None} == {True}
    factor, unit = denomination("share" if is_share else "number", 1.0)
    means = array("d", [math.nan if one is None else factor * one[0] for one in found])
    stderrs = array("d", [math.nan if one is None else factor * one[1] for one in found])
    return RewardView(
        array("d", range(1, len(found) + 1)),
        means,
        array("d", [mean - stderr for mean, stderr in zip(means, stderrs, strict=True)]),
        array("d", [mean + stderr for mean, stderr in zip(means, stderrs, strict=True)]),
        unit,
    )


def _notices(round: RoundState) -> Iterator[Notice]:
    """Yields what a person should know from the summaries of a round's stages, and from its end."""
    label = round.label_summary
    about = rounds.FINAL if round.closing else f"round {round.round}"
    truncated = round.sample_summary.truncated_frac or 0.0
    if truncated > TRUNCATED_LIMIT:
        done = rounds.about_cut_off(label)
        text = f"{about}: {percent(truncated)} of the completions were cut off"
        text += f" ({done})" if done else ""
        yield Notice("warning", text, "truncated")
    if label.num_unscored:
        why = f" ({'; '.join(label.unscored_reasons)})" if label.unscored_reasons else ""
        unscored = plural(label.num_unscored, "completion")
        text = f"{about}: {unscored} of {label.num_completions} unscored{why}"
        yield Notice("warning", text, "unscored")
    if judge := rounds.about_judge(label):
        yield Notice("muted", f"{about}: {judge}")
    if round.untrained:
        yield Notice("warning", f"{about} was not trained: {round.untrained}")
    if round.unscored:
        yield Notice("warning", f"{about} has no score: {round.unscored}")
    for stage in STAGES:
        found = round.stages.get(stage)
        if found is None or found.status != "failed":
            continue
        attempt = f"{about}: attempt {found.attempt} of {stage}"
        if found.outcome != "failed":
            yield Notice("muted", f"{attempt} was {found.outcome}")
        elif found.reason:
            yield Notice("bad", f"{attempt} failed: {found.reason}")


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)
