"""What finished stages say of themselves, also those of other versions."""

from __future__ import annotations

import msgspec
import pytest
from halos_backend.config.guards import DISK_METRICS
from halos_backend.events import STAGES
from halos_backend.events.summaries import (
    SUMMARIES,
    LabelSummary,
    SampleSummary,
    StageSummary,
    TrainSummary,
    as_summary,
    read_summary,
)
from halos_backend.supervisor.guards import STAGE_OF_METRIC
from halos_backend.supervisor.rounds import TABLE_METRICS

from halos_tui.changes.results import MEASURES


def test_a_figure_without_a_meaning_is_null_and_one_not_looked_for_is_left_out() -> None:
    assert SampleSummary(num_prompts=2, elapsed_s=1.5).as_json() == {
        "num_prompts": 2,
        "tokens_per_s": None,
        "elapsed_s": 1.5,
    }
    label = LabelSummary(num_completions=4, num_cut_off=0).as_json()
    assert label["reward_mean"] is label["reward_stderr"] is label["num_feedback"] is None
    assert not {"reward_mean_penalized", "num_cut_off_dropped", "engine"} & label.keys()
    penalized = LabelSummary(num_cut_off_penalized=0).as_json()
    assert penalized["reward_mean_penalized"] is None
    train = TrainSummary(num_steps=3, kl_initial=0.5).as_json()
    assert train["kl_initial_stderr"] is train["implicit_reward_margin"] is None
    assert not {"num_masked", "untrained", "canary_diff_mean"} & train.keys()


def test_a_round_without_training_says_why_and_nothing_else() -> None:
    found = TrainSummary(num_steps=0, num_masked=2, untrained="all is masked", elapsed_s=0.5)
    assert found.as_json() == {
        "num_steps": 0,
        "num_masked": 2,
        "untrained": "all is masked",
        "elapsed_s": 0.5,
    }


def test_what_every_stage_says_comes_last() -> None:
    found = TrainSummary(elapsed_s=1.0, num_steps=3, host_own_peak_memory_bytes=7, untrained="-")
    assert list(found.as_json()) == [
        "num_steps",
        "untrained",
        "elapsed_s",
        "host_own_peak_memory_bytes",
    ]


def test_names_of_other_versions_are_passed_over_and_missing_ones_are_unknown() -> None:
    found = read_summary(b'{"num_steps": 3, "of_a_later_version": [1]}', TrainSummary)
    assert found == TrainSummary(num_steps=3)


@pytest.mark.parametrize("wrong", ['"high"', "true", "[]", "{}", "1" + "0" * 400])
def test_a_value_that_is_no_number_is_unknown_and_the_others_stay(wrong: str) -> None:
    content = f'{{"reward_mean": {wrong}, "num_feedback": 4, "reward_std": 1}}'.encode()
    expected = LabelSummary(num_feedback=4, reward_std=1.0)
    assert read_summary(content, LabelSummary) == expected
    assert as_summary(msgspec.json.decode(content), LabelSummary) == expected


def test_figures_that_others_name_are_there() -> None:
    for stage in STAGES:
        fields = set(SUMMARIES[stage].__struct_fields__)
        assert set(TABLE_METRICS[stage]) <= fields
        assert {measure.key for measure in MEASURES if measure.stage == stage} <= fields
    for metric, stage in STAGE_OF_METRIC.items():
        assert metric in SUMMARIES[stage].__struct_fields__
        assert metric not in DISK_METRICS
    assert "host_own_peak_memory_bytes" in StageSummary.__struct_fields__
