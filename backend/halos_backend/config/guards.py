"""Owns the settings of guards: rules that stop a run when one of its numbers goes wrong."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from halos_backend.config.table import Fraction, Table

GuardMetric = Literal[
    "loss_last",
    "kl_initial",
    "reward_mean",
    "length_mean",
    "truncated_frac",
    "unique_frac",
    "reward_length_corr",
    "disk_free_bytes",
    "disk_free_rounds",
]
"""What a guard can look at: numbers of a finished stage, and the disk before each round."""


class Guard(Table):
    """One rule. It trips when its metric breaks any of the limits that are given."""

    metric: GuardMetric
    """The number that is watched."""
    above: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Trips when the metric is over this."""
    below: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Trips when the metric is under this."""
    drop_frac: Fraction | None = None
    """Trips when the metric fell by more than this share of its best value so far."""
    not_finite: bool = False
    """Trips when the metric is NaN or infinite."""
    action: Literal["pause", "abort", "warn", "off"] = "pause"
    """What happens then; `off` takes the guard away."""


DEFAULT_GUARDS: dict[str, Guard] = {
    "non_finite_loss": Guard(metric="loss_last", not_finite=True),
    "disk": Guard(metric="disk_free_rounds", below=1.0),
}
"""On unless the run file says otherwise under the same names."""
