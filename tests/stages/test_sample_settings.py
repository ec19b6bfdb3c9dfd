"""Settings that change what is sampled: the transformers engine against plain computations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from halos_backend.records import CanaryRow, Completion, Prompt, read_rows
from halos_backend.stages.runtime import open_attempt
from halos_backend.stages.sample.engine import Request
from halos_backend.stages.sample.transformers_engine import load_engine
from transformers import AutoModelForCausalLM

from tests.support.place import make_tokenizer
from tests.support.plain_sampling import chi_square, plain_distribution
from tests.support.sample_fixtures import LETTERS, SamplePlace, by_id, groups_of, run_here

END = 2
PROMPT = (1, *(LETTERS[letter] for letter in "hello"), 2, 1)
NUM_DRAWS = 4000


@pytest.fixture
def place(tmp_path: Path) -> SamplePlace:
    """With a policy that is less undecided than a random one, so that the settings matter."""
    place = SamplePlace(tmp_path)
    policy = AutoModelForCausalLM.from_pretrained(place.policy)
    with torch.no_grad():
        policy.lm_head.weight.mul_(12.0)
    policy.save_pretrained(place.policy)
    return place


def next_logits(place: SamplePlace, *prompts: tuple[int, ...]) -> list[list[float]]:
    policy = AutoModelForCausalLM.from_pretrained(place.policy).eval()
    with torch.no_grad():
        return [policy(torch.tensor([prompt])).logits[0, -1].tolist() for prompt in prompts]


def first_tokens(place: SamplePlace, requests: list[Request], **sample: Any) -> list[int]:
    attempt = open_attempt(place.attempt("drawn", max_new_tokens=1, **sample).path)
    engine = load_engine(str(place.policy), attempt.settings)
    made = dict(engine.generate(requests, stepped=lambda: None))
    return [made[number].token_ids[0] for number in range(len(requests))]


CUTS = {
    "top_k": {"top_k": 4},
    "min_p": {"min_p": 0.3},
    "repetition_penalty": {"penalty": 3.0},
    "min_new_tokens": {"banned": {END}},
    "all": {
        "temperature": 0.8, "top_k": 9, "min_p": 0.05, "top_p": 0.9, "penalty": 1.5, "banned": {END}
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CUTS)
def test_drawn_tokens_have_the_distribution_of_plain_python(place: SamplePlace, name: str) -> None:
    cut: dict[str, Any] = dict(CUTS[name])
    (logits,) = next_logits(place, PROMPT)
    expected = plain_distribution(logits, seen=PROMPT, **cut)
    whole = plain_distribution(logits)
    settings = {key: value for key, value in cut.items() if key not in ("penalty", "banned")}
    settings |= {"repetition_penalty": cut["penalty"]} if "penalty" in cut else {}
    settings |= {"min_new_tokens": 1} if "banned" in cut else {}
    requests = [Request(PROMPT, seed) for seed in range(NUM_DRAWS)]
    drawn = first_tokens(place, requests, **settings)
    statistic, limit = chi_square(drawn, expected)
    assert statistic < limit
    # and not that of a sampler that ignores the setting
    assert chi_square(drawn, whole)[0] > chi_square(drawn, whole)[1]


def test_completions_of_a_group_have_the_temperatures_in_turn(place: SamplePlace) -> None:
    attempt = place.attempt("several", temperatures=[0.0, 0.5, 2.0], group_size=3)
    run_here(attempt)
    for group in groups_of(attempt):
        assert [c.temperature for c in group.completions] == [0.0, 0.5, 2.0]
    greedy = place.attempt("greedy", temperature=0.0, group_size=1)
    run_here(greedy)
    first = {name: group.completions[0].token_ids for name, group in by_id(attempt).items()}
    assert first == {name: g.completions[0].token_ids for name, g in by_id(greedy).items()}


def test_temperatures_start_again_when_the_group_is_larger(place: SamplePlace) -> None:
    attempt = place.attempt("turns", temperatures=[0.5, 1.5], group_size=5)
    run_here(attempt)
    found = {tuple(c.temperature for c in group.completions) for group in groups_of(attempt)}
    assert found == {(0.5, 1.5, 0.5, 1.5, 0.5)}


def test_each_draw_has_the_distribution_of_its_own_temperature(place: SamplePlace) -> None:
    (logits,) = next_logits(place, PROMPT)
    temperatures = (0.4, 2.0)
    requests = [
        Request(PROMPT, seed, temperature=temperatures[seed % 2]) for seed in range(2 * NUM_DRAWS)
    ]
    drawn = first_tokens(place, requests)
    for number, temperature in enumerate(temperatures):
        expected = plain_distribution(logits, temperature=temperature)
        statistic, limit = chi_square(drawn[number::2], expected)
        assert statistic < limit


def test_a_completion_does_not_depend_on_the_temperatures_of_its_batch_mates(
    place: SamplePlace,
) -> None:
    mixed = place.attempt("mixed", temperatures=[0.5, 1.5], group_size=2)
    alone = place.attempt("alone", temperature=0.5, group_size=2)
    run_here(mixed)
    run_here(alone)
    found = {name: group.completions[0].token_ids for name, group in by_id(mixed).items()}
    assert found == {name: group.completions[0].token_ids for name, group in by_id(alone).items()}


def test_one_temperature_is_not_written_down(place: SamplePlace) -> None:
    attempt = place.attempt("one")
    run_here(attempt)
    assert b"temperature" not in attempt.completions.read_bytes()


def test_greedy_tokens_with_a_penalty_are_those_of_generate(place: SamplePlace) -> None:
    """Its padding must not count among the tokens that are there."""
    settings = {"repetition_penalty": 1.8, "min_new_tokens": 7}
    attempt = place.attempt(
        "greedy", temperature=0.0, group_size=1, batch_size=4, max_new_tokens=24, **settings
    )
    run_here(attempt)
    policy = AutoModelForCausalLM.from_pretrained(place.policy).eval()
    groups = by_id(attempt)
    plain = set()
    for prompt in read_rows(place.path / "prompts.jsonl", Prompt):
        ids = torch.tensor([prompt.token_ids])
        given = {"attention_mask": torch.ones_like(ids), "do_sample": False, "max_new_tokens": 24}
        made = policy.generate(ids, eos_token_id=[END], **given, **settings)
        found = groups[prompt.prompt_id].completions[0].token_ids
        assert list(found) == made[0, ids.shape[1] :].tolist()
        made = policy.generate(ids, eos_token_id=[END], **given)
        plain.add(tuple(made[0, ids.shape[1] :].tolist()))
    assert plain != {group.completions[0].token_ids for group in groups.values()}


def completions_of(place: SamplePlace, name: str, **sample: Any) -> dict[str, Completion]:
    attempt = place.attempt(name, **sample)
    run_here(attempt)
    return {c.completion_id: c for group in groups_of(attempt) for c in group.completions}


def test_end_tokens_end_no_completion_before_the_least_length(place: SamplePlace) -> None:
    ends = [3, 5, 7, 9, 11]
    job = {"group_size": 8, "max_new_tokens": 12, "stop_token_ids": ends}
    without = completions_of(place, "without", **job)
    found = completions_of(place, "with", min_new_tokens=6, **job)
    assert min(len(c.token_ids) for c in without.values()) == 1
    assert min(len(c.token_ids) for c in found.values()) == 7  # six tokens and an end token
    assert all({END, *ends}.isdisjoint(c.token_ids[:6]) for c in found.values())


def test_a_stop_string_that_is_complete_too_early_ends_nothing(place: SamplePlace) -> None:
    tokenizer = make_tokenizer()
    job = {"max_new_tokens": 30, "group_size": 8, "min_new_tokens": 10}
    whole = completions_of(place, "whole", **job)
    found = completions_of(place, "stopped", stop=["e"], **job)
    kinds = Counter[str]()
    for name, completion in whole.items():
        texts = [
            tokenizer.decode(completion.token_ids[:n], skip_special_tokens=True)
            for n in range(len(completion.token_ids) + 1)
        ]
        early = texts[10]
        end = next((n for n in range(11, len(texts)) if "e" in texts[n][len(early) :]), None)
        kinds["early"] += "e" in early
        kinds["late"] += end is not None
        if end is None:
            assert found[name] == completion
            continue
        assert found[name].token_ids == completion.token_ids[:end]
        assert found[name].text == texts[end][: texts[end].index("e", len(early))]
        assert found[name].finish_reason == "stop"
    assert min(kinds["early"], kinds["late"]) >= 3


def test_log_probabilities_are_the_policys_own_whatever_changes_the_draw(
    place: SamplePlace,
) -> None:
    attempt = place.attempt(
        "logps", temperatures=[0.5, 2.0], top_k=5, min_p=0.1, top_p=0.8, repetition_penalty=2.0,
        min_new_tokens=4
    )  # fmt: skip
    run_here(attempt)
    policy = AutoModelForCausalLM.from_pretrained(place.policy).eval()
    for row in read_rows(attempt.canary, CanaryRow):
        ids = torch.tensor([[*row.prompt_token_ids, *row.token_ids]])
        with torch.no_grad():
            logps = policy(ids).logits[0].double().log_softmax(-1)
        first = len(row.prompt_token_ids) - 1
        expected = [float(logps[first + i, token]) for i, token in enumerate(row.token_ids)]
        assert row.logps == pytest.approx(expected, abs=1e-5)
