"""What GRPO takes of how its completions were sampled: temperatures, and the sampler's numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from halos_backend.errors import StageError
from halos_backend.records import CanaryRow, Completion, Group, read_rows
from halos_backend.store.run_dir import AttemptDir
from msgspec.structs import replace

from tests.support.sample_fixtures import SamplePlace, groups_of, run_here
from tests.support.train_fixtures import (
    groups,
    load_plain,
    make_attempt,
    make_policy,
    metrics,
    summary_of,
    train,
    weights_of,
)

CAP: dict[str, Any] = {"kind": "grpo", "beta": 0.0, "sampler_ratio_cap": 2.0}
DRAW: dict[str, Any] = {
    "temperatures": [0.6, 1.4], "top_p": 0.8, "top_k": 12, "min_p": 0.02,
    "repetition_penalty": 1.3, "min_new_tokens": 2, "group_size": 4,
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> SamplePlace:
    return SamplePlace(tmp_path)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("other"), seed=11)


def plain_logps(model: Any, prompt: Any, completion: Any, temperature: float) -> torch.Tensor:
    ids = torch.tensor([[*prompt, *completion]])
    with torch.no_grad():
        logits = model(ids).logits[0].double() / temperature
    first = len(prompt) - 1
    logps = logits.log_softmax(-1)[first:-1]
    return logps.gather(-1, ids[0, first + 1 :].unsqueeze(-1)).squeeze(-1)


def scored(group: Group) -> Group:
    """Rewards that differ: the number of the completion."""
    completions = tuple(
        replace(completion, reward=float(k)) for k, completion in enumerate(group.completions)
    )
    return replace(group, completions=completions)


def sampled(place: SamplePlace, loss: dict[str, Any], **sample: Any) -> AttemptDir:
    attempt = place.attempt("sampled", loss=loss, **sample)
    run_here(attempt)
    return attempt


def trained(
    place: SamplePlace, sample: AttemptDir, loss: dict[str, Any], **more: Any
) -> AttemptDir:
    attempt = make_attempt(
        place.path / "trained", [scored(group) for group in groups_of(sample)], model=place.policy,
        reference=place.policy, loss=loss, batch_size=8, completions=sample.completions, **more,
    )  # fmt: skip
    train(attempt)
    return attempt


def test_the_samplers_log_probabilities_of_every_token_are_kept_where_the_loss_takes_them(
    place: SamplePlace,
) -> None:
    attempt = sampled(place, CAP, **DRAW)
    model = load_plain(place.policy)
    for group in groups_of(attempt):
        for completion in group.completions:
            ids = (group.prompt_token_ids, completion.token_ids)
            expected = plain_logps(model, *ids, 1.0).tolist()
            assert completion.logps == pytest.approx(expected, abs=1e-5)
    assert len(list(read_rows(attempt.canary, CanaryRow))) == 2


def test_no_log_probabilities_are_kept_otherwise(place: SamplePlace) -> None:
    attempt = sampled(place, {"kind": "grpo"}, **DRAW)
    assert b"logps" not in attempt.completions.read_bytes()


@pytest.mark.parametrize("at_sampling_temperature", [False, True])
def test_what_changes_the_draw_does_not_change_the_ratio_to_the_sampler(
    place: SamplePlace, at_sampling_temperature: bool
) -> None:
    """Those of the distribution that was drawn from have a mean ratio well below 1."""
    loss = CAP | {"at_sampling_temperature": at_sampling_temperature}
    attempt = trained(place, sampled(place, CAP, **DRAW), loss)
    steps = [found for number, found in metrics(attempt).items() if number]
    assert steps
    for found in steps:
        assert found["sampler_ratio_mean"] == pytest.approx(1.0, abs=1e-4)
        assert found["sampler_capped_frac"] == 0.0


def test_each_token_is_weighted_by_its_ratio_to_the_sampler_up_to_the_cap(
    policy: Path, tmp_path: Path
) -> None:
    model = load_plain(policy)
    rows, expected, num_tokens = [], 0.0, 0
    for group in groups(3):
        completions = []
        rewards = [completion.reward or 0.0 for completion in group.completions]
        mean = sum(rewards) / len(rewards)
        for k, completion in enumerate(group.completions):
            ours = plain_logps(model, group.prompt_token_ids, completion.token_ids, 1.0)
            off = torch.linspace(-1.0, 1.5, len(ours), dtype=torch.float64) * (k + 1) / 4
            completions.append(replace(completion, logps=tuple((ours - off).tolist())))
            weights = [min(math.exp(value), 1.6) for value in off.tolist()]
            expected -= (rewards[k] - mean) * sum(weights)
            num_tokens += len(weights)
        rows.append(replace(group, completions=tuple(completions)))
    loss = CAP | {"sampler_ratio_cap": 1.6, "scale_advantages": False}
    attempt = make_attempt(
        tmp_path / "attempt", rows, model=policy, reference=policy, loss=loss, batch_size=12,
        microbatch_tokens=40,
    )  # fmt: skip
    train(attempt)
    assert metrics(attempt)[1]["loss"] == pytest.approx(expected / num_tokens, abs=1e-5)
    assert 0 < metrics(attempt)[1]["sampler_capped_frac"] < 1


def test_equal_numbers_of_sampler_and_trainer_change_nothing(policy: Path, tmp_path: Path) -> None:
    model, rows = load_plain(policy), groups(3)
    exact = [
        replace(
            group,
            completions=tuple(
                replace(
                    each,
                    logps=tuple(
                        plain_logps(model, group.prompt_token_ids, each.token_ids, 1.0).tolist()
                    ),
                )
                for each in group.completions
            ),
        )
        for group in rows
    ]
    shared: dict[str, Any] = {
        "model": policy, "reference": policy, "batch_size": 4, "num_epochs": 2
    }  # fmt: skip
    with_cap = make_attempt(tmp_path / "with", exact, loss=CAP, **shared)
    without = make_attempt(tmp_path / "without", rows, loss={"kind": "grpo", "beta": 0.0}, **shared)
    train(with_cap)
    train(without)
    found, expected = weights_of(with_cap.checkpoint), weights_of(without.checkpoint)
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, atol=2e-6, rtol=1e-4)


def test_completions_without_the_samplers_numbers_are_refused_by_name(
    policy: Path, tmp_path: Path
) -> None:
    attempt = make_attempt(
        tmp_path / "attempt", groups(2), model=policy, reference=policy, loss=CAP, batch_size=8
    )
    with pytest.raises(
        StageError, match=r"completion 'c0' has no log-probabilities of its sampler"
    ):
        train(attempt)


@pytest.mark.parametrize("several", [False, True])
def test_log_probabilities_at_the_sampling_temperature_equal_a_plain_computation(
    several: bool, policy: Path, other: Path, tmp_path: Path
) -> None:
    """Also where a completion was sampled twice, at different temperatures."""
    own = (0.5, 2.0, 0.5, 2.0) if several else (None,) * 4
    rows = []
    for group in groups(3):
        twin = replace(group.completions[1], token_ids=group.completions[0].token_ids)
        made = [group.completions[0], twin, *group.completions[2:]]
        completions = (
            replace(each, temperature=temperature)
            for each, temperature in zip(made, own, strict=True)
        )
        rows.append(replace(group, completions=tuple(completions)))
    loss = {"kind": "grpo", "beta": 0.3, "at_sampling_temperature": True}
    attempt = make_attempt(
        tmp_path / "attempt", rows, model=policy, reference=other, loss=loss, batch_size=12,
        sample={"temperature": 0.8, "group_size": 4},
    )  # fmt: skip
    train(attempt)
    ours, theirs = load_plain(policy), load_plain(other)
    losses = []
    for group in rows:
        rewards = torch.tensor([c.reward for c in group.completions], dtype=torch.float64)
        scaled = (rewards - rewards.mean()) / (rewards.std(correction=0) + 1e-4)
        for a, completion in zip(scaled, group.completions, strict=True):
            at = 0.8 if completion.temperature is None else completion.temperature
            ids = (group.prompt_token_ids, completion.token_ids)
            ratio = plain_logps(theirs, *ids, at) - plain_logps(ours, *ids, at)
            losses.append(0.3 * (ratio.exp() - ratio - 1) - a)
    assert metrics(attempt)[1]["loss"] == pytest.approx(torch.cat(losses).mean().item(), abs=2e-5)


def test_the_constant_that_divides_the_loss_is_the_longest_that_a_completion_may_be(
    policy: Path, tmp_path: Path
) -> None:
    rows = groups(3)
    attempt = make_attempt(
        tmp_path / "attempt", rows, model=policy, reference=policy, batch_size=12,
        microbatch_tokens=40, loss={"kind": "grpo", "beta": 0.0, "aggregation": "constant"},
        sample={"max_new_tokens": 50},
    )  # fmt: skip
    train(attempt)
    total = 0.0
    for group in rows:
        rewards = torch.tensor([c.reward for c in group.completions], dtype=torch.float64)
        scaled = (rewards - rewards.mean()) / (rewards.std(correction=0) + 1e-4)
        lengths = [len(completion.token_ids) for completion in group.completions]
        total -= sum(float(a) * length for a, length in zip(scaled, lengths, strict=True))
    assert metrics(attempt)[1]["loss"] == pytest.approx(total / (12 * 50), abs=1e-6)


def test_advantages_can_be_of_the_others_and_scaled_over_the_round(
    policy: Path, tmp_path: Path
) -> None:
    def group(name: str, *rewards: float) -> Group:
        completions = tuple(
            Completion(f"{name}.{k}", "", (5 + k, 1), "stop", reward)
            for k, reward in enumerate(rewards)
        )
        return Group(name, ({"role": "user", "content": "x"},), (7, 8), 0, completions)

    rows = [group("p", 0.0, 2.0), group("q", 10.0, 14.0)]
    attempt = make_attempt(
        tmp_path / "attempt", rows, model=policy, reference=policy, batch_size=4,
        loss={"kind": "grpo", "baseline": "leave_one_out", "scale_over": "round"},
    )  # fmt: skip
    train(attempt)
    # -2, 2, -4 and 4 over the deviation of 0, 2, 10 and 14
    expected = 3 / (math.sqrt(32.75) + 1e-4)
    assert metrics(attempt)[1]["advantage_abs_mean"] == pytest.approx(expected, rel=1e-6)
    assert summary_of(attempt)["num_examples"] == 4


@pytest.mark.parametrize("num_epochs", [1, 2])
def test_rloo_takes_the_kl_to_the_reference_off_the_rewards(
    num_epochs: int, policy: Path, other: Path, tmp_path: Path
) -> None:
    """Ahmadian et al. 2024: on policy the loss is minus the mean advantage of R = r - b KL."""
    rows = groups(3)
    loss = {
        "kind": "grpo", "beta": 0.5, "kl_in": "reward", "baseline": "leave_one_out",
        "scale_advantages": False, "ratio": "product", "aggregation": "sequence",
    }  # fmt: skip
    attempt = make_attempt(
        tmp_path / "attempt", rows, model=policy, reference=other, loss=loss, batch_size=4,
        num_epochs=num_epochs,
    )  # fmt: skip
    train(attempt)
    ours, theirs = load_plain(policy), load_plain(other)
    sizes = []
    for group in rows:
        rewards = []
        for completion in group.completions:
            ids = (group.prompt_token_ids, completion.token_ids)
            kl = (plain_logps(ours, *ids, 1.0) - plain_logps(theirs, *ids, 1.0)).sum().item()
            assert abs(kl) > 1e-3
            rewards.append((completion.reward or 0.0) - 0.5 * kl)
        others = [(sum(rewards) - reward) / (len(rewards) - 1) for reward in rewards]
        advantages = [reward - mean for reward, mean in zip(rewards, others, strict=True)]
        sizes.append(sum(map(abs, advantages)) / len(advantages))
    found = [metrics(attempt)[step]["advantage_abs_mean"] for step in (1, 2, 3)]
    assert sorted(found) == pytest.approx(sorted(sizes), abs=1e-5)
    # on policy advantages of a group add up to 0, and there is no KL in the loss
    assert metrics(attempt)[1]["loss"] == pytest.approx(0.0, abs=1e-6)
