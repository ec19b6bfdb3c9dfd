"""Rules between settings: each is refused with the setting to change and what to write."""

from __future__ import annotations

from typing import Any

import pytest
from halos_backend.config.conflicts import find_conflicts
from halos_backend.config.load import parse_settings
from halos_backend.config.losses import FEEDBACK_OF_LOSS, LOSSES_WITH_REFERENCE
from halos_backend.config.schema import RunSettings
from halos_backend.errors import SettingsError


def settings(loss: str = "dpo", feedback: str | None = None, **tables: Any) -> RunSettings:
    """Settings checked one by one, but not against each other."""
    train = {"loss": {"kind": loss}} | tables.pop("train", {})
    table = {
        "policy": {"path": "org/policy"},
        "prompts": {"path": "org/prompts"},
        "label": {
            "judge": {"kind": "function", "function": "judge.py:f"},
            "feedback": {"kind": feedback or FEEDBACK_OF_LOSS[loss][0]},
        },
        "train": train,
    }
    return RunSettings.model_validate(table | tables)


CONFLICTS = {
    "grpo on pairs": (
        settings("grpo", "pairwise"),
        "label.feedback.kind",
        "train.loss.kind = 'grpo' cannot learn from pairwise feedback: write 'scalar' here",
    ),
    "dpo on whole groups": (
        settings("dpo", "scalar"),
        "label.feedback.kind",
        "cannot learn from scalar feedback: write 'pairwise' here (scalar feedback is for grpo)",
    ),
    "pairs of one": (
        settings(sample={"group_size": 1}),
        "sample.group_size",
        "pairwise feedback compares the completions of a prompt: write 2 or more",
    ),
    "groups of one": (
        settings("grpo", sample={"group_size": 1}),
        "sample.group_size",
        "scalar feedback compares the completions of a prompt: write 2 or more",
    ),
    "greedy groups": (
        settings("kto", "binary", sample={"temperature": 0, "group_size": 4}),
        "sample.temperature",
        "so a group of 4 says no more than one of them: write more than 0, for example 0.7",
    ),
    "a group of one temperature 0 after another": (
        settings(sample={"temperatures": [0, 0.7], "group_size": 4}),
        "sample.temperatures",
        "2 of a group's 4 completions have temperature 0 and are all the same: write 0 for at most"
        " one of them",
    ),
    "a temperature that no completion has": (
        settings(sample={"temperature": 1.0, "temperatures": [0.5, 0.7]}),
        "sample.temperature",
        "which has a completion's own: take one of them out, or write 0.7 here",
    ),
    "more temperatures than completions": (
        settings(sample={"temperatures": [0.5, 0.7, 1.0], "group_size": 2}),
        "sample.temperatures",
        "3 temperatures are more than the sample.group_size = 2 completions that could have them",
    ),
    "top_k of greedy sampling": (
        settings("kto", "binary", sample={"temperature": 0, "group_size": 1, "top_k": 5}),
        "sample.top_k",
        "has no effect at temperature 0, which takes the likeliest token: take the line out",
    ),
    "min_p of greedy sampling": (
        settings("kto", "binary", sample={"temperature": 0, "group_size": 1, "min_p": 0.1}),
        "sample.min_p",
        "has no effect at temperature 0",
    ),
    "completions longer than they may be": (
        settings(sample={"min_new_tokens": 9, "max_new_tokens": 8}),
        "sample.min_new_tokens",
        "a completion of at least 9 tokens is longer than sample.max_new_tokens = 8: lower it",
    ),
    "an estimate of no KL": (
        settings("grpo", train={"loss": {"kind": "grpo", "beta": 0, "kl_estimate": "k2"}}),
        "train.loss.kl_estimate",
        "has no effect with train.loss.beta = 0: take the line out",
    ),
    "a KL of no weight in the reward": (
        settings("grpo", train={"loss": {"kind": "grpo", "beta": 0, "kl_in": "reward"}}),
        "train.loss.kl_in",
        "has no effect with train.loss.beta = 0: take the line out",
    ),
    "an estimate beside a KL in the reward": (
        settings("grpo", train={"loss": {"kind": "grpo", "kl_in": "reward", "kl_estimate": "k2"}}),
        "train.loss.kl_estimate",
        "is of a KL in the loss, and has no effect with train.loss.kl_in = 'reward'",
    ),
    "humanline with a KL in the reward": (
        settings(
            "grpo",
            train={
                "loss": {"kind": "grpo", "kl_in": "reward", "humanline": {}},
                "reference": "previous",
            },
        ),
        "train.loss.humanline",
        "a reference that moves with the policy, whose KL no reward of the round has",
    ),
    "a mask over a KL in the reward": (
        settings("grpo", train={"loss": {"kind": "grpo", "kl_in": "reward"}, "mask_cut_off": True}),
        "train.mask_cut_off",
        "leaves completions out whose KL their group's advantages need",
    ),
    "a scale that is not taken": (
        settings(
            "grpo",
            train={
                "loss": {"kind": "grpo", "scale_advantages": False, "scale_over": "round"},
            },
        ),
        "train.loss.scale_over",
        "has no effect with train.loss.scale_advantages = false: take the line out",
    ),
    "clips beside CISPO": (
        settings("grpo", train={"loss": {"kind": "grpo", "cispo_cap": 5, "clip_high": 0.28}}),
        "train.loss.clip_high",
        "has no effect with train.loss.cispo_cap: take the line out",
    ),
    "a dual clip beside CISPO": (
        settings("grpo", train={"loss": {"kind": "grpo", "cispo_cap": 5, "dual_clip": 3}}),
        "train.loss.dual_clip",
        "has no effect with train.loss.cispo_cap",
    ),
    "humanline with CISPO": (
        settings(
            "grpo",
            train={
                "loss": {"kind": "grpo", "cispo_cap": 5, "humanline": {}},
                "reference": "previous",
            },
        ),
        "train.loss.humanline",
        "clamps gradients, and CISPO's ratios have none: take train.loss.cispo_cap out",
    ),
    "humanline with the sampler's ratios": (
        settings(
            "grpo",
            train={
                "loss": {"kind": "grpo", "sampler_ratio_cap": 2, "humanline": {}},
                "reference": "previous",
            },
        ),
        "train.loss.sampler_ratio_cap",
        "with humanline they are to the reference: take the line out",
    ),
    "a division by 0": (
        settings(
            "grpo",
            sample={"temperatures": [0, 1.0], "group_size": 2},
            train={"loss": {"kind": "grpo", "at_sampling_temperature": True}},
        ),
        "train.loss.at_sampling_temperature",
        "logits cannot be divided by temperature 0",
    ),
    "a division by 1": (
        settings(
            "grpo",
            sample={"temperature": 1.0},
            train={"loss": {"kind": "grpo", "at_sampling_temperature": True}},
        ),
        "train.loss.at_sampling_temperature",
        "has no effect where completions are sampled at temperature 1: take the line out",
    ),
    "a penalty that is never taken": (
        settings(
            label={
                "judge": {"kind": "function", "function": "judge.py:f"},
                "feedback": {"kind": "pairwise"},
                "cut_off_penalty": 2.0,
            }
        ),
        "label.cut_off_penalty",
        "has no effect with label.cut_off = 'score': write 'penalty' there, or take the line out",
    ),
    "a penalty for no length": (
        settings(
            label={
                "judge": {"kind": "function", "function": "judge.py:f"},
                "feedback": {"kind": "pairwise"},
                "overlong_penalty": 2.0,
            }
        ),
        "label.overlong_penalty",
        "has no effect without label.overlong_tokens: write it, or take the line out",
    ),
    "completions that are all too long": (
        settings(
            label={
                "judge": {"kind": "function", "function": "judge.py:f"},
                "feedback": {"kind": "pairwise"},
                "overlong_tokens": 513,
            }
        ),
        "label.overlong_tokens",
        "513 are more than sample.max_new_tokens = 512, so that every completion would be too long",
    ),
    "a mask with nothing under it": (
        settings(
            label={
                "judge": {"kind": "function", "function": "judge.py:f"},
                "feedback": {"kind": "pairwise"},
                "cut_off": "drop",
            },
            train={"mask_cut_off": True},
        ),
        "train.mask_cut_off",
        "has no effect with label.cut_off = 'drop', which leaves none in the feedback",
    ),
    "a batch the processes cannot share": (
        settings(train={"batch_size": 10}, launch={"num_processes": 4}),
        "train.batch_size",
        "cannot be shared by launch.num_processes = 4: write 8 or 12",
    ),
    "a batch smaller than the processes": (
        settings(train={"batch_size": 3}, launch={"num_processes": 4}),
        "train.batch_size",
        "3 examples cannot be shared by launch.num_processes = 4: write 4",
    ),
    "a trainer sharded over one process": (
        settings(launch={"sharding": "fsdp2"}),
        "launch.sharding",
        "launch.num_processes is 1: write 2 or more there, or write launch.sharding = 'none'",
    ),
    "sharded adapters": (
        settings(train={"lora": {}}, launch={"sharding": "fsdp2", "num_processes": 2}),
        "launch.sharding",
        "trains all weights, not adapters: take train.lora out, or write launch.sharding = 'none'",
    ),
    "a sharded reference that follows": (
        settings(
            train={"loss": {"kind": "dpo", "humanline": {}}, "reference": "previous"},
            launch={"sharding": "fsdp2", "num_processes": 2},
        ),
        "launch.sharding",
        "has no reference that follows the policy: take train.loss.humanline out",
    ),
    "a sharded reward model": (
        settings("bradley_terry", launch={"sharding": "fsdp2", "num_processes": 2}),
        "launch.sharding",
        "trains policies, not reward models: write launch.sharding = 'none'",
    ),
    "a batch that splits groups": (
        settings("grpo", train={"batch_size": 20}, sample={"group_size": 8}),
        "train.batch_size",
        "are not a number of groups of sample.group_size = 8: write 16 or 24",
    ),
    "a round beyond the budget": (
        settings(loop={"num_prompts": 100, "prompts_per_round": 512}),
        "loop.prompts_per_round",
        "more than loop.num_prompts = 100 over all rounds: write at most 100",
    ),
    "overlap of several processes": (
        settings(loop={"overlap": True}, launch={"num_processes": 2}, train={"batch_size": 4}),
        "loop.overlap",
        "write false, or launch.num_processes = 1",
    ),
    "humanline with a fixed reference": (
        settings(train={"loss": {"kind": "dpo", "humanline": {}}, "reference": "initial"}),
        "train.reference",
        "it cannot stay 'initial': write 'previous'",
    ),
    "a reference for a loss without one": (
        settings("simpo", train={"reference": "previous"}),
        "train.reference",
        "train.loss.kind = 'simpo' has no reference: take the line out",
    ),
    "one control text": (
        settings(
            "csft", train={"loss": {"kind": "csft", "chosen_prefix": "x", "rejected_prefix": "x"}}
        ),
        "train.loss.rejected_prefix",
        "write another",
    ),
    "kto without weights": (
        settings(
            "kto",
            train={"loss": {"kind": "kto", "desirable_weight": 0, "undesirable_weight": 0}},
        ),
        "train.loss.desirable_weight",
        "write more than 0 for one of them",
    ),
    "adapters for a reward model": (
        settings("bradley_terry", train={"lora": {}}),
        "train.lora",
        "take [train.lora] out",
    ),
    "an empty stop": (settings(sample={"stop": ["a", ""]}), "sample.stop", "take it out"),
}


@pytest.mark.parametrize("case", CONFLICTS)
def test_a_conflict_names_the_setting_and_what_to_write(case: str) -> None:
    found, path, reason = CONFLICTS[case]
    conflicts = find_conflicts(found)
    assert [where for where, _ in conflicts] == [path]
    assert reason in conflicts[0][1]


@pytest.mark.parametrize("loss", FEEDBACK_OF_LOSS)
def test_every_loss_with_each_of_its_feedback_kinds_is_free_of_conflicts(loss: str) -> None:
    for feedback in FEEDBACK_OF_LOSS[loss]:
        assert find_conflicts(settings(loss, feedback)) == []


@pytest.mark.parametrize("loss", sorted(LOSSES_WITH_REFERENCE))
def test_humanline_with_the_previous_policy_is_free_of_conflicts(loss: str) -> None:
    train = {"loss": {"kind": loss, "humanline": {}}, "reference": "previous"}
    assert find_conflicts(settings(loss, train=train)) == []


def test_greedy_sampling_of_single_completions_is_free_of_conflicts() -> None:
    sample = {"temperature": 0, "group_size": 1}
    assert find_conflicts(settings("kto", "binary", sample=sample)) == []


def test_one_greedy_completion_beside_drawn_ones_is_free_of_conflicts() -> None:
    sample = {"temperatures": [0, 0.7, 1.0], "group_size": 3, "top_k": 20, "min_p": 0.05}
    assert find_conflicts(settings(sample=sample)) == []


def test_a_round_of_the_whole_budget_is_free_of_conflicts() -> None:
    assert find_conflicts(settings(loop={"num_prompts": 512, "prompts_per_round": 512})) == []


def test_several_conflicts_are_all_found() -> None:
    found = settings("grpo", "pairwise", sample={"group_size": 1, "stop": [""]})
    assert {path for path, _ in find_conflicts(found)} == {
        "label.feedback.kind",
        "sample.group_size",
        "sample.stop",
    }


def test_loading_refuses_conflicts() -> None:
    table = settings("grpo", "pairwise").model_dump()
    with pytest.raises(SettingsError, match=r"here: 1 problem\n  label\.feedback\.kind: "):
        parse_settings(table, source="here")
