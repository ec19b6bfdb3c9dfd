"""Owns which metrics a person sees first, by the loss of the run; all others are found by typing.

Names are those that summaries and steps have: `train.kl_initial` by round, `loss` by step. It is
pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from halos_tui.charts.series import extremes
from halos_tui.metrics.view import Chart

HELD_OUT = "evaluation."
"""It stands before figures of held-out prompts, on which the policy is not trained."""
REWARD = ("label.reward_mean", f"{HELD_OUT}label.reward_mean")
POLICY = ("train.kl_initial", "sample.length_mean")
MARGINS = ("train.implicit_reward_margin", "train.implicit_reward_accuracy")
VARIETY = ("sample.unique_frac", "sample.truncated_frac")
"""Entropy is not measured; how many completions are unlike stands for it."""
SPEED = ("sample.tokens_per_s", "train.tokens_per_s")
STEP_MARGINS = (
    "implicit_reward_margin",
    "implicit_reward_accuracy",
    "implicit_reward_chosen",
    "implicit_reward_rejected",
)
STEP_END = ("grad_norm", "lr", "tokens_per_s")

PAIRS = (
    *(*REWARD, *POLICY, *MARGINS, "label.margin_mean", "train.loss_last", *VARIETY, *SPEED),
    *("loss", *STEP_MARGINS, *STEP_END),
)
"""Of a loss on pairs the margin of the rewards says what there is to learn."""
UNPAIRED = (
    *(*REWARD, *POLICY, *MARGINS, "label.num_desirable", "train.loss_last", *VARIETY, *SPEED),
    *("loss", "kto_kl", *STEP_MARGINS, *STEP_END),
)
GROUPS = (
    *(*REWARD, *POLICY, "label.reward_std", "label.num_equal_groups", *VARIETY),
    *("train.grad_norm_mean", "train.loss_last", *SPEED),
    *("loss", "advantage_abs_mean", "clip_frac", "unclamped_frac", *STEP_END),
)
"""Of a loss on whole groups their spread says what there is to learn; its own value says little."""
IMITATION = (
    *(*REWARD, *POLICY, "train.loss_last", "train.grad_norm_mean", *VARIETY, *SPEED),
    *("loss", *STEP_END),
)

FIRST_PAGES = {
    "dpo": PAIRS,
    "cdpo": PAIRS,
    "ipo": PAIRS,
    "robust": PAIRS,
    "exo": PAIRS,
    "apo_zero": PAIRS,
    "apo_down": PAIRS,
    "sppo": PAIRS,
    "bco": PAIRS,
    "simpo": PAIRS,
    "slic": PAIRS,
    "bradley_terry": PAIRS,
    "kto": UNPAIRED,
    "grpo": GROUPS,
    "sft": IMITATION,
    "csft": IMITATION,
}
SAME = 1e-9
"""Values that differ by a smaller share than this are equal: the rest is rounding."""


def first_names(losses: Iterable[str]) -> tuple[str, ...]:
    """Returns the names for runs with these losses; of a loss that is not known, those of all."""
    pages = [FIRST_PAGES.get(loss) for loss in losses]
    known = [page for page in pages if page is not None]
    if len(known) < len(pages) or not pages:
        known += FIRST_PAGES.values()
    return tuple(dict.fromkeys(name for page in known for name in page))


def in_order(charts: Sequence[Chart], names: Sequence[str]) -> list[Chart]:
    """Returns the charts of the first page before the others, which stay as they come."""
    places = {name: place for place, name in enumerate(names)}
    return sorted(charts, key=lambda chart: places.get(chart.name, len(places)))


def first_page(charts: Sequence[Chart], names: Sequence[str]) -> tuple[list[Chart], int]:
    """Returns the charts of the first page, and how many constant ones are left out.

    Where it would be empty, nothing is left out: neither constant charts nor, of a run whose
    metrics are all its own, the others.
    """
    first = [chart for chart in charts if chart.name in names] or [*charts]
    changing = [chart for chart in first if not is_constant(chart)]
    return (changing, len(first) - len(changing)) if changing else (first, 0)


def is_constant(chart: Chart) -> bool:
    """Says whether a chart has several values, and all of them are equal."""
    columns = [one for line in chart.lines for one in (line.ys, line.lows, line.highs)]
    ends = [end for column in columns for end in extremes(column or ()) or ()]
    if not ends or max(ends) - min(ends) > SAME * max(map(abs, ends)):
        return False
    return sum(math.isfinite(y) for line in chart.lines for y in line.ys) > 1
