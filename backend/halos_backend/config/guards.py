"""Owns the settings of guards: rules that stop a run when one of its numbers goes wrong.

`supervisor.guards` looks at the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from halos_backend.config.table import Fraction, Table

GuardMetric = Literal[
    "loss_last",
    "kl_initial",
    "reward_mean",
    "unscored_frac",
    "length_mean",
    "truncated_frac",
    "unique_frac",
    "reward_length_corr",
    "disk_free_bytes",
    "disk_free_rounds",
]
"""Names the metrics that a guard can watch: numbers of a finished stage, and the disk before each
round.
"""

DISK_METRICS: frozenset[GuardMetric] = frozenset({"disk_free_bytes", "disk_free_rounds"})

GuardName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Guard(Table):
    """One rule. It trips when its metric breaks any of the limits that are given."""

    metric: GuardMetric
    """The number that is watched. Of a finished stage: loss_last, kl_initial, reward_mean (of the
    policy before the round's training), unscored_frac (the share of completions without a reward),
    length_mean, truncated_frac, unique_frac, reward_length_corr. Before each round:
    disk_free_bytes, disk_free_rounds (how many more rounds fit)."""
    above: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Trips when the metric is over this, or not finite."""
    below: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Trips when the metric is under this, or not finite."""
    drop_frac: Fraction | None = None
    """Trips when the metric fell by more than this share of its best value so far."""
    not_finite: bool = False
    """Trips when the metric is NaN or infinite."""
    action: Literal["pause", "abort", "warn", "off"] = "pause"
    """What happens then: `pause` and `abort` stop the run, `warn` records it, `off` takes the guard
    away."""


DEFAULT_GUARDS: dict[str, Guard] = {
    "non_finite_loss": Guard(metric="loss_last", not_finite=True),
    "disk": Guard(metric="disk_free_rounds", below=1.0),
    "unscored": Guard(metric="unscored_frac", above=0.25),
}
"""Holds the guards that are on unless the run file says otherwise under the same names."""


def with_default_guards(guards: object, *, among: Sequence[str] | None = None) -> object:
    """Puts the `guards` of a run file over the default ones, or those `among` them, by name and
    key.

    A guard that watches another metric than the default of its name is a new guard of the person's.
    What is no table stays as it is, to be reported.
    """
    if guards is None:
        guards = {}
    if not isinstance(guards, Mapping):
        return guards
    defaults = {
        name: guard.model_dump(exclude_unset=True)
        for name, guard in DEFAULT_GUARDS.items()
        if among is None or name in among
    }
    return {
        **defaults,
        **{name: _over(defaults.get(name), guard) for name, guard in guards.items()},
    }


def find_guard_conflicts(name: str, guard: Guard) -> Iterator[tuple[str, str]]:
    """Says why a guard, as it is, could never trip or always would: (dotted path, reason)."""
    path, metric, above, below = f"guards.{name}", guard.metric, guard.above, guard.below
    if guard.action == "off":
        return
    if above is None and below is None and guard.drop_frac is None and not guard.not_finite:
        yield (
            path,
            "has no limit, so it would never trip: write above, below, drop_frac or not_finite"
            " (or action = 'off')",
        )
    if above is not None and below is not None and above <= below:
        yield (
            f"{path}.above",
            f"every number is above {above:g} or below {below:g}, so the guard would always trip:"
            f" write more than {below:g}",
        )
    if metric in DISK_METRICS and guard.drop_frac is not None:
        yield (
            f"{path}.drop_frac",
            f"{metric} has no best value to fall from: take the line out, and write below",
        )
    if metric in DISK_METRICS and guard.not_finite:
        yield (f"{path}.not_finite", f"{metric} is always finite: take the line out")


def _over(default: Mapping[str, Any] | None, guard: object) -> object:
    if default is None or not isinstance(guard, Mapping):
        return guard
    is_same = guard.get("metric", default["metric"]) == default["metric"]
    return {**default, **guard} if is_same else guard
