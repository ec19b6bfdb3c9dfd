"""Estimates what changed settings cost in each round, by how long the rounds so far took. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from halos_backend.config.needs import example_noun, examples_per_round
from halos_backend.config.schema import RunSettings
from halos_backend.events import STAGES, Stage
from halos_backend.store.state import RunState

from halos_tui.formatting import count, rough_duration
from halos_tui.run.etas import stage_times

LEAST_SHARE = 0.02
"""A round that takes this much more or less is as long as before."""


def describe_cost(state: RunState, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """`a round has at most 1,024 pairs instead of 512`, `a round takes about 9m more ...`.

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
    """What the stage's time is taken to grow with."""
    completions = settings.loop.prompts_per_round * settings.sample.group_size
    match stage:
        case "sample" | "label":
            return float(completions)
        case "train":
            return float(examples_per_round(settings) * settings.train.num_epochs)
