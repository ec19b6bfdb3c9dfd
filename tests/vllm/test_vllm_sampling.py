"""The sample stage with real vLLM on the CPU, against the transformers engine and itself."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from halos_backend.records import CanaryRow, Prompt, read_rows
from halos_backend.store.manifest import read_done
from halos_backend.store.run_dir import RunDir
from transformers import AutoModelForCausalLM

from tests.support.foreign import sample, start, summary_of, worker
from tests.support.plain_sampling import chi_square, plain_distribution
from tests.support.sample_fixtures import SamplePlace, by_id, run_here
from tests.support.waiting import wait_for
from tests.vllm.conftest import make_tiny_policy

pytestmark = pytest.mark.vllm

GREEDY = {"temperature": 0.0, "group_size": 1, "max_new_tokens": 24}


@pytest.fixture
def samples(tmp_path: Path) -> SamplePlace:
    """Prompts and a policy that vLLM takes."""
    place = SamplePlace(tmp_path)
    make_tiny_policy(place.policy)
    return place


@pytest.mark.parametrize("stop", [[], ["e", "o s"]], ids=["end tokens", "stop strings"])
def test_greedy_completions_are_those_of_transformers(
    samples: SamplePlace, vllm_python: str, stop: list[str]
) -> None:
    job = {**GREEDY, "stop": stop, "stop_token_ids": [9]}
    ours = samples.attempt("transformers", engine="transformers", **job)
    run_here(ours)
    theirs = samples.attempt("vllm", engine="vllm", **job)
    sample(theirs, vllm_python)
    assert by_id(theirs) == by_id(ours)
    reasons = {group.completions[0].finish_reason for group in by_id(theirs).values()}
    assert reasons == {"stop", "length"} if not stop else "stop" in reasons


def test_greedy_completions_with_a_penalty_and_a_least_length_are_those_of_transformers(
    samples: SamplePlace, vllm_python: str
) -> None:
    job = {
        **GREEDY, "stop": ["e", "o s"], "stop_token_ids": [9], "repetition_penalty": 1.4,
        "min_new_tokens": 6,
    }  # fmt: skip
    ours = samples.attempt("transformers", engine="transformers", **job)
    run_here(ours)
    theirs = samples.attempt("vllm", engine="vllm", **job)
    sample(theirs, vllm_python)
    assert by_id(theirs) == by_id(ours)
    assert min(len(g.completions[0].token_ids) for g in by_id(ours).values()) >= 7


def test_drawn_tokens_have_the_distribution_of_plain_python(
    samples: SamplePlace, vllm_python: str
) -> None:
    """Every second completion has another temperature, and the first token may be no end token."""
    cut: dict[str, Any] = {"top_k": 9, "min_p": 0.05, "top_p": 0.9}
    temperatures, num_draws = (0.8, 1.6), 2000
    (prompt,) = samples.write_prompts(["hello"])
    attempt = samples.attempt(
        "drawn", engine="vllm", temperatures=temperatures, group_size=2 * num_draws,
        max_new_tokens=1, min_new_tokens=1, repetition_penalty=1.5, **cut,
    )  # fmt: skip
    sample(attempt, vllm_python)
    (group,) = by_id(attempt).values()
    policy = AutoModelForCausalLM.from_pretrained(samples.policy).eval()
    with torch.no_grad():
        logits = policy(torch.tensor([prompt.token_ids])).logits[0, -1].tolist()
    for number, temperature in enumerate(temperatures):
        completions = group.completions[number::2]
        assert {completion.temperature for completion in completions} == {temperature}
        expected = plain_distribution(
            logits, temperature=temperature, penalty=1.5, seen=prompt.token_ids, banned={2}, **cut
        )
        statistic, limit = chi_square((c.token_ids[0] for c in completions), expected)
        assert statistic < limit


def test_log_probabilities_are_those_of_the_policy(samples: SamplePlace, vllm_python: str) -> None:
    """Of the canary, and of every token where the loss takes the sampler's."""
    attempt = samples.attempt(
        "drawn", engine="vllm", temperatures=[0.7, 1.3], top_p=0.9, top_k=20, min_p=0.01,
        repetition_penalty=1.3, min_new_tokens=2, stop=["o s"],
        loss={"kind": "grpo", "sampler_ratio_cap": 2.0},
    )  # fmt: skip
    sample(attempt, vllm_python)
    policy = AutoModelForCausalLM.from_pretrained(samples.policy).eval()
    rows = [
        (row.prompt_token_ids, row.token_ids, row.logps)
        for row in read_rows(attempt.canary, CanaryRow)
    ]
    assert len(rows) == 2
    rows += [
        (group.prompt_token_ids, completion.token_ids, completion.logps)
        for group in by_id(attempt).values()
        for completion in group.completions
    ]
    for prompt, token_ids, found in rows:
        with torch.no_grad():
            logps = policy(torch.tensor([[*prompt, *token_ids]])).logits[0].log_softmax(-1)
        start_at = len(prompt) - 1
        expected = [float(logps[start_at + i, token]) for i, token in enumerate(token_ids)]
        assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("is_tied", [True, False])
def test_an_engine_that_is_handed_new_weights_samples_as_transformers_does_with_them(
    tmp_path: Path, vllm_python: str, is_tied: bool
) -> None:
    """Also back to the first policy, whose prompts were cached under the second."""
    samples = SamplePlace(tmp_path)
    first, second = (
        make_tiny_policy(tmp_path / f"policy{seed}", seed=seed, is_tied=is_tied) for seed in (3, 4)
    )
    found, logs = [], []
    with worker(RunDir(tmp_path / "run"), vllm_python, stage="sample") as hand_over:
        for name, policy in (("there", first), ("over", second), ("back", first)):
            attempt = samples.attempt(name, policy=policy, engine="vllm", **GREEDY)
            hand_over(attempt)
            found.append(by_id(attempt))
            logs.append(attempt.log.read_text())
    assert [f"model='{first}'" in log for log in logs] == [True, False, False], "loaded once"
    there, over, back = (
        {name: group.completions[0].token_ids for name, group in groups.items()} for groups in found
    )
    assert there == back != over
    for policy, groups in ((first, found[0]), (second, found[1])):
        model = AutoModelForCausalLM.from_pretrained(policy).eval()
        for group in groups.values():
            ids = torch.tensor([group.prompt_token_ids])
            expected = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24
            )
            made = group.completions[0].token_ids
            assert list(made) == expected[0, len(group.prompt_token_ids) :].tolist()


def test_a_killed_attempt_is_finished_to_the_bytes_of_an_uninterrupted_one(
    samples: SamplePlace, vllm_python: str, plain_python: str
) -> None:
    samples.write_prompts([chr(97 + i % 26) * (1 + i % 5) for i in range(400)])
    job = {"engine": "vllm", "group_size": 4, "max_new_tokens": 40}
    whole = samples.attempt("whole", **job)
    sample(whole, vllm_python)

    killed = samples.attempt("killed", **job)
    process = start(killed, plain_python)
    try:
        wait_for(lambda: killed.completions.is_file() and killed.completions.stat().st_size > 0)
    finally:
        process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL  # it was still at work
    assert read_done(killed.path) is None
    killed.early_groups.touch()
    left = {
        line.split(b'"prompt_id":"')[1].split(b'"')[0]
        for path in (killed.completions, killed.early_groups)
        for line in path.read_bytes().splitlines(keepends=True)
        if line.endswith(b"\n")
    }

    second = samples.attempt("second", earlier=[killed], **job)
    sample(second, vllm_python)
    assert summary_of(second)["num_reused"] == 4 * len(left) >= 4
    assert second.completions.read_bytes() == whole.completions.read_bytes()
    assert not second.early_groups.exists()
    prompts = {prompt.prompt_id for prompt in read_rows(samples.path / "prompts.jsonl", Prompt)}
    assert set(by_id(second)) == prompts


def test_two_replicas_make_what_one_engine_makes(samples: SamplePlace, vllm_python: str) -> None:
    alone, shared = (
        samples.attempt(name, engine="vllm", vllm={"replicas": count})
        for name, count in (("alone", 1), ("shared", 2))
    )
    sample(alone, vllm_python)
    sample(shared, vllm_python)
    assert shared.completions.read_bytes() == alone.completions.read_bytes()


def test_a_replica_that_fails_says_why(samples: SamplePlace, vllm_python: str) -> None:
    vllm = {"replicas": 2, "arguments": {"max_model_len": 8}}
    attempt = samples.attempt("short", engine="vllm", vllm=vllm)
    process = start(attempt, vllm_python)
    assert process.wait(timeout=240) == 1
    said = attempt.events.read_text()
    assert "leaves no room for a completion in vLLM's max_model_len = 8" in said
    assert "vLLM engine " in said


def test_an_engine_in_a_process_of_its_own_says_that_memory_is_too_small(
    samples: SamplePlace, plain_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where its exception stays in that process."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    vllm = {"arguments": {"kv_cache_memory_bytes": 1 << 10}}
    attempt = samples.attempt("small", engine="vllm", vllm=vllm)
    process = start(attempt, plain_python)
    assert process.wait(timeout=240) == 1
    assert "(EngineCore pid=" in attempt.log.read_text()
    said = attempt.events.read_text()
    assert "vLLM does not fit into memory: " in said
    assert "sample.vllm.tensor_parallel_size" in said
    assert '"cause":"out_of_memory"' in said


def test_more_prompt_tokens_than_vllm_computes_at_a_time(
    samples: SamplePlace, vllm_python: str
) -> None:
    """On a CPU a seeded completion cannot go on after a part of its prompt."""
    samples.write_prompts([chr(97 + i) * 70 for i in range(20)])
    attempt = samples.attempt("long", engine="vllm", group_size=4, temperature=1.0)
    sample(attempt, vllm_python)
    assert sum(len(group.completions) for group in by_id(attempt).values()) == 80
