"""The sample stage with a tiny policy: parity with generate, streaming, and taking over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from halos_backend.config.schema import RunSettings
from halos_backend.records import Group, Message, Prompt, read_rows, write_rows
from halos_backend.stages.runtime import open_attempt
from halos_backend.stages.sample.stage import sample_round
from halos_backend.store.job import Job, SampleInputs, write_job
from halos_backend.store.run_dir import AttemptDir
from place import make_policy, make_tokenizer, wait_for
from transformers import AutoModelForCausalLM

WORDS = ["a", "be", "sea", "door", "eagle", "fabric", "gallery", "harmonic", "x y z", "q"]


class Stage:
    """A policy, prompts, and attempts of one stage."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.policy = path / "policy"
        make_policy(self.policy)
        self.tokenizer = make_tokenizer()
        self.write_prompts(WORDS)

    def write_prompts(self, texts: Iterable[str]) -> None:
        rows = []
        for number, text in enumerate(texts):
            ids = self.tokenizer(f"<s>{text}</s><s>", add_special_tokens=False)["input_ids"]
            rows.append(Prompt(str(number), (Message("user", text),), tuple(ids), {"answer": text}))
        self.num_prompts = write_rows(self.path / "prompts.jsonl", rows)

    def prepare(self, number: int = 1, *, seed: int = 0, **sample: Any) -> AttemptDir:
        """An attempt directory with its job; attempts before it are its earlier ones."""
        loss = sample.pop("loss", {"kind": "dpo"})
        table = {
            "policy": {"path": str(self.policy)},
            "prompts": {"path": "prompts.jsonl"},
            "sample": {
                "group_size": 3,
                "max_new_tokens": 6,
                "temperature": 1.0,
                "top_p": 1.0,
                "batch_size": 6,
                **sample,
            },
            "label": {
                "judge": {"kind": "function", "function": "judge.py:reward"},
                "feedback": {"kind": "binary" if loss["kind"] == "csft" else "pairwise"},
            },
            "train": {"loss": loss},
            "launch": {"num_threads": 1, "device": "cpu"},
        }
        attempt = AttemptDir(self.path / f"attempt_{number}")
        attempt.path.mkdir()
        job = Job(
            run="run",
            round=1,
            stage="sample",
            attempt=number,
            seed=seed,
            num_threads=1,
            num_processes=1,
            settings=RunSettings.model_validate(table).model_dump(mode="json"),
            inputs=SampleInputs(
                policy=str(self.policy),
                policy_version=0,
                prompts=str(self.path / "prompts.jsonl"),
                cursor=0,
                num_prompts=self.num_prompts,
            ),
            earlier_attempts=tuple(
                str(self.path / f"attempt_{earlier}") for earlier in range(number - 1, 0, -1)
            ),
        )
        write_job(attempt.job, job)
        return attempt

    def run(self, number: int = 1, **sample: Any) -> tuple[list[Group], dict[str, Any]]:
        attempt = self.prepare(number, **sample)
        summary = sample_round(open_attempt(attempt.path)).summary
        return list(read_rows(attempt.completions, Group)), summary


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def by_prompt(groups: Iterable[Group]) -> dict[str, Group]:
    return {group.prompt_id: group for group in groups}


def test_greedy_completions_are_those_of_generate(stage: Stage) -> None:
    groups, _ = stage.run(temperature=0.0, group_size=1, max_new_tokens=12)
    model = AutoModelForCausalLM.from_pretrained(stage.policy)
    for group in groups:
        ids = torch.tensor([group.prompt_token_ids])
        said = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
        )
        assert list(group.completions[0].token_ids) == said[0, ids.shape[1] :].tolist()


def test_a_completion_ends_with_its_end_token_or_is_cut_off(stage: Stage) -> None:
    groups, summary = stage.run(group_size=8, max_new_tokens=5, batch_size=16)
    completions = [completion for group in groups for completion in group.completions]
    reasons = {completion.finish_reason for completion in completions}
    assert reasons == {"stop", "length"}
    for completion in completions:
        if completion.finish_reason == "stop":
            assert completion.token_ids[-1] == 2
        else:
            assert len(completion.token_ids) == 5
        assert 2 not in completion.token_ids[:-1]
        text = stage.tokenizer.decode(completion.token_ids, skip_special_tokens=True)
        assert completion.text == text
    lengths = [len(completion.token_ids) for completion in completions]
    cut = [completion for completion in completions if completion.finish_reason == "length"]
    texts = [{completion.text for completion in group.completions} for group in groups]
    assert summary["num_tokens"] == sum(lengths)
    assert summary["length_mean"] == pytest.approx(sum(lengths) / 80)
    assert summary["truncated_frac"] == pytest.approx(len(cut) / 80)
    assert summary["unique_frac"] == pytest.approx(sum(map(len, texts)) / 80)


def test_the_same_seed_gives_the_same_rows_and_another_gives_others(stage: Stage) -> None:
    first, _ = stage.run(1, seed=1)
    again = [group for group in stage.run(2, seed=2)[0]]
    third, _ = stage.run(3, seed=1)
    assert by_prompt(first) == by_prompt(third)
    assert by_prompt(first) != by_prompt(again)


def test_batch_mates_do_not_matter_to_a_completion(stage: Stage) -> None:
    """With logits this far apart, rounding cannot change a token: only the random numbers could."""
    together, _ = stage.run(1, batch_size=30)
    alone, _ = stage.run(2, batch_size=1)
    same = sum(
        ours.token_ids == theirs.token_ids
        for prompt_id, group in by_prompt(together).items()
        for ours, theirs in zip(
            group.completions, by_prompt(alone)[prompt_id].completions, strict=True
        )
    )
    assert same >= 29  # of 30; a number within 1e-6 of an edge may fall on either side


def test_a_stop_string_ends_a_completion_and_is_left_out_of_its_text(stage: Stage) -> None:
    free, _ = stage.run(1, max_new_tokens=20, group_size=6)
    letters = [c.text for group in free for c in group.completions if len(c.text) > 4]
    stop = letters[0][2:5]  # two letters and the space that decoding puts between them
    groups, _ = stage.run(2, max_new_tokens=20, group_size=6, stop=[stop])
    stopped = 0
    for before, after in zip(free, groups, strict=True):
        for whole, ours in zip(before.completions, after.completions, strict=True):
            assert stop not in ours.text
            if stop in whole.text:
                stopped += 1
                assert ours.finish_reason == "stop"
                assert ours.text == whole.text[: whole.text.index(stop)]
                decoded = stage.tokenizer.decode(ours.token_ids, skip_special_tokens=True)
                assert decoded == ours.text + stop
    assert stopped >= 1


def test_a_stop_token_ends_a_completion(stage: Stage) -> None:
    groups, _ = stage.run(max_new_tokens=20, stop_token_ids=[7, 8, 9])
    ends = {c.token_ids[-1] for g in groups for c in g.completions if c.finish_reason == "stop"}
    assert ends & {7, 8, 9}
    assert not any({7, 8, 9} & set(c.token_ids[:-1]) for g in groups for c in g.completions)


def test_conditional_sft_asks_with_a_control_text_that_the_prompt_does_not_keep(
    stage: Stage,
) -> None:
    loss = {"kind": "csft", "chosen_prefix": "good", "rejected_prefix": "bad"}
    asked, _ = stage.run(1, temperature=0.0, group_size=1, max_new_tokens=12, loss=loss)
    model = AutoModelForCausalLM.from_pretrained(stage.policy)
    prefix = stage.tokenizer("good", add_special_tokens=False)["input_ids"]
    for group in asked:
        text = group.prompt[0].content
        plain = stage.tokenizer(f"<s>{text}</s><s>", add_special_tokens=False)["input_ids"]
        assert list(group.prompt_token_ids) == plain
        ids = torch.tensor([[*plain, *prefix]])
        said = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
        )
        assert list(group.completions[0].token_ids) == said[0, ids.shape[1] :].tolist()


def test_columns_of_the_prompt_travel_with_its_group(stage: Stage) -> None:
    groups, _ = stage.run()
    assert all(group.columns == {"answer": group.prompt[0].content} for group in groups)
    assert {group.policy_version for group in groups} == {0}


def test_a_killed_stage_goes_on_where_it_was_and_leaves_the_same_bytes(stage: Stage) -> None:
    stage.write_prompts([f"{word} {'k' * (number % 7)}" for number in range(40) for word in WORDS])
    long = {"batch_size": 6, "max_new_tokens": 40}
    whole = stage.prepare(1, **long)
    sample_round(open_attempt(whole.path))
    whole.path.rename(stage.path / "whole")

    cut = stage.prepare(1, **long)
    program = [sys.executable, "-m", "halos_backend.stages.sample", "--attempt-dir", str(cut.path)]
    process = subprocess.Popen(program, env={**os.environ, "OMP_NUM_THREADS": "1"})
    wait_for(lambda: cut.completions.is_file() and cut.completions.stat().st_size > 20_000)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not cut.done.exists()

    second = stage.prepare(2, **long)
    summary = sample_round(open_attempt(second.path)).summary
    assert 0 < summary["num_reused"] < summary["num_completions"]
    expected = (stage.path / "whole" / "completions.jsonl").read_bytes()
    assert second.completions.read_bytes() == expected


def test_a_torn_row_and_rows_of_another_job_are_not_taken_over(stage: Stage) -> None:
    groups, _ = stage.run(1)
    first = AttemptDir(stage.path / "attempt_1")
    content = first.completions.read_bytes()
    first.completions.write_bytes(content[: content.rindex(b"{")])
    again, summary = stage.run(2)
    assert again == groups
    assert summary["num_reused"] == 24  # four whole batches of two groups of three

    _, other_seed = stage.run(3, seed=9)
    assert other_seed["num_reused"] == 0


def test_an_attempt_that_takes_over_everything_loads_no_policy(stage: Stage) -> None:
    groups, _ = stage.run(1)
    (stage.policy / "model.safetensors").unlink()
    again, summary = stage.run(2)
    assert again == groups
    assert summary["num_reused"] == summary["num_completions"]
    assert summary["tokens_per_s"] is None
    assert msgspec.json.encode(summary)
