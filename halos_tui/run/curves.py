"""Reads the train curves of one round; an attempt's events are read when they are to be shown."""

from __future__ import annotations

from collections.abc import Mapping

from halos_backend.events import Stage
from halos_backend.store.run_dir import RunDir

from halos_tui.run.round_book import RoundBook
from halos_tui.run.view import CurvesView, CurveView, RoundRow
from halos_tui.tracking.attempt_tail import AttemptTail

Key = tuple[int, Stage]

TITLES = {
    "loss": "loss",
    "implicit_reward_margin": "implicit reward margin",
    "implicit_reward_accuracy": "implicit reward accuracy",
    "kto_kl": "KL to the reference",
    "grad_norm": "gradient norm",
    "lr": "learning rate",
    "advantage_abs_mean": "advantage, mean absolute",
    "clip_frac": "clipped share",
    "sampler_ratio_mean": "trainer over sampler, mean ratio",
    "sampler_capped_frac": "share of sampler ratios at the cap",
    "unclamped_frac": "unclamped share",
}
"""These are shown where they are logged, in this order."""
KL = 3
"""This is the place of the KL among them."""


class RunCurves:
    """`view` is as of the last `select`."""

    def __init__(self, run_dir: RunDir, book: RoundBook) -> None:
        self._run_dir = run_dir
        self._book = book
        self._shown: AttemptTail | None = None
        self._about: tuple[int, int] | None = None
        self._is_due = True
        self._was_live = False
        self.view = CurvesView()

    def refresh(self) -> None:
        """Draws anew what runs."""
        self._is_due = True

    def select(self, round: int | None, running: Mapping[Key, AttemptTail]) -> None:
        """Turns to a round, or to the newest that trains or has trained."""
        row = self._book.newest_trained if round is None else self._book.row(round)
        about = _attempt_of(row)
        if about == self._about and not self._is_due:
            return
        is_other = about != self._about
        self._about, self._is_due = about, False
        if about is None:
            self._shown = None
            self.view = CurvesView(round or 0, 0, self._by_round())
            return
        live = running.get((about[0], "train"))
        if is_other:
            known = live or AttemptTail(self._run_dir.attempt(about[0], "train", about[1]))
            self._shown = known
        has_news = live is not None or self._was_live
        self._was_live = live is not None
        if live is None and self._shown is not None:  # what runs is read by whoever follows it
            has_news = self._shown.read() or has_news
        if is_other or has_news:
            self.view = self._view(about[0])

    def _view(self, round: int) -> CurvesView:
        tail = self._shown
        assert tail is not None
        curves = [_curve(name, tail) for name in TITLES if name in tail.series]
        curves[KL:KL] = [] if "kto_kl" in tail.series else self._by_round()
        return CurvesView(round, tail.num_steps, tuple(curves))

    def _by_round(self) -> tuple[CurveView, ...]:
        curve = self._book.kl_by_round()
        return () if curve is None else (curve,)


def _attempt_of(row: RoundRow | None) -> tuple[int, int] | None:
    return None if row is None or row.train_attempt is None else (row.round, row.train_attempt)


def _curve(name: str, tail: AttemptTail) -> CurveView:
    series = tail.series[name]
    xs, ys, lows, highs = series.columns()
    if not series.is_joined:
        return CurveView(name, TITLES[name], xs, ys)
    return CurveView(name, TITLES[name], xs, ys, lows, highs)
