"""The canary: what the sampler writes down, and what the trainer makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from halos_backend.errors import StageError
from halos_backend.records import CanaryRow, read_rows, write_rows
from halos_backend.stages.sample import stage
from halos_backend.store.run_dir import AttemptDir
from transformers import AutoModelForCausalLM

from tests.support.sample_fixtures import SamplePlace, groups_of, run_here
from tests.support.train_fixtures import make_attempt, make_policy, pairs, train

DPO = {"kind": "dpo"}


@pytest.fixture
def place(tmp_path: Path) -> SamplePlace:
    return SamplePlace(tmp_path)


def rows_of(attempt: AttemptDir) -> list[CanaryRow]:
    return list(read_rows(attempt.canary, CanaryRow))


def expected_logps(policy: Path, row: CanaryRow) -> list[float]:
    """By one forward over the whole sequence."""
    model = AutoModelForCausalLM.from_pretrained(policy).eval()
    ids = torch.tensor([[*row.prompt_token_ids, *row.token_ids]])
    with torch.no_grad():
        logps = model(ids).logits[0].double().log_softmax(-1)
    first = len(row.prompt_token_ids) - 1
    return [float(logps[first + i, token]) for i, token in enumerate(row.token_ids)]


@pytest.mark.parametrize("loss", [DPO, {"kind": "csft", "chosen_prefix": "yes "}])
def test_log_probabilities_are_the_policys_own_whatever_the_temperature(
    place: SamplePlace, loss: dict[str, str]
) -> None:
    attempt = place.attempt("drawn", temperature=0.5, top_p=0.8, loss=loss)
    run_here(attempt)
    completions = {c.completion_id: c for group in groups_of(attempt) for c in group.completions}
    rows = rows_of(attempt)
    assert len({row.completion_id for row in rows}) == stage.NUM_COMPLETIONS == 2
    assert all(row.completion_id.endswith(".0") for row in rows)
    for row in rows:
        assert row.token_ids == completions[row.completion_id].token_ids
        assert row.logps == pytest.approx(expected_logps(place.policy, row), abs=1e-5)


def test_a_few_completions_and_their_first_tokens_are_enough(
    place: SamplePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "NUM_COMPLETIONS", 1)
    monkeypatch.setattr(stage, "NUM_TOKENS", 3)
    attempt = place.attempt("few")
    run_here(attempt)
    assert len(rows_of(attempt)) == 1
    assert all(len(row.token_ids) == len(row.logps) <= 3 for row in rows_of(attempt))


@pytest.mark.parametrize("num_lines", [3, 7])
def test_rows_of_completions_taken_over_are_taken_over(place: SamplePlace, num_lines: int) -> None:
    whole = place.attempt("whole")
    run_here(whole)
    expected = {row.completion_id: row for row in rows_of(whole)}
    lines = whole.completions.read_bytes().splitlines(keepends=True)
    whole.completions.write_bytes(b"".join(lines[:num_lines]))
    later = place.attempt("later", earlier=[whole])
    assert run_here(later).summary.num_reused == (14 if num_lines == 7 else 6)
    assert {row.completion_id: row for row in rows_of(later)} == expected


def test_the_attempt_says_what_sampled_and_why(place: SamplePlace) -> None:
    attempt = place.attempt("said", engine="transformers")
    summary = run_here(attempt).summary.as_json()
    said = json.loads(attempt.sampler.read_bytes())
    assert said["engine"] == "transformers"
    assert summary["engine"] == f"transformers {said['version']}"
    assert summary["engine_reason"] == said["reason"] == "sample.engine asks for it"


class TrainPlace:
    """A policy to train, and the canary of what sampled for it."""

    def __init__(self, path: Path, dtype: torch.dtype = torch.float32) -> None:
        self.path = path
        self.policy = make_policy(path / "policy", dtype=dtype)
        self.sample = AttemptDir(path / "sample")
        self.sample.path.mkdir()

    def sampled_by(self, policy: Path) -> None:
        """Leave the canary that a sampler with those weights would."""
        model = AutoModelForCausalLM.from_pretrained(policy).eval()
        rows = []
        for number, row in enumerate(pairs(6)):
            prompt, tokens = row.prompt_token_ids, row.chosen.token_ids
            with torch.no_grad():
                logps = model(torch.tensor([[*prompt, *tokens]])).logits[0].float().log_softmax(-1)
            found = [float(logps[len(prompt) - 1 + i, token]) for i, token in enumerate(tokens)]
            rows.append(CanaryRow(f"{number}.0", prompt, tokens, tuple(found)))
        write_rows(self.sample.canary, rows)

    def train(self, **job: object) -> dict[str, object]:
        completions = self.sample.completions
        return train(
            make_attempt(
                self.path / "train",
                pairs(4),
                model=self.policy,
                completions=completions,
                loss=DPO,
                reference=self.policy,
                **job,  # type: ignore[arg-type]
            )
        )


def perturbed(policy: Path, path: Path, *, by: float) -> Path:
    """A copy with every weight moved up or down by that much, in its own dtype."""
    model = AutoModelForCausalLM.from_pretrained(policy)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            signs = torch.randint(0, 2, weight.shape, generator=generator) * 2 - 1
            weight.add_(by * signs.to(weight.dtype))
    model.save_pretrained(path)
    return path


DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_policys_own_samples_are_within_what_its_dtype_explains(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    place = TrainPlace(tmp_path, dtype)
    place.sampled_by(place.policy)
    summary = place.train()
    assert summary["canary_diff_mean"] <= summary["canary_diff_limit"]  # type: ignore[operator]
    assert summary["num_canary_tokens"] == sum(len(row.chosen.token_ids) for row in pairs(6))
    if dtype == torch.float32:
        assert summary["canary_diff_limit"] == 1e-4
        assert summary["canary_diff_max"] < 1e-5  # type: ignore[operator]


@pytest.mark.parametrize(
    ("dtype", "by"), [(torch.float32, 1e-3), (torch.bfloat16, 0.06), (torch.float16, 1e-2)], ids=str
)
def test_samples_of_other_weights_stop_the_round(
    tmp_path: Path, dtype: torch.dtype, by: float
) -> None:
    place = TrainPlace(tmp_path, dtype)
    place.sampled_by(perturbed(place.policy, tmp_path / "other", by=by))
    with pytest.raises(StageError, match="is not the one to be trained"):
        place.train()
    assert not (tmp_path / "train" / "checkpoint").exists()


def test_log_probabilities_that_are_not_numbers_stop_the_round(tmp_path: Path) -> None:
    place = TrainPlace(tmp_path)
    nothing = json.dumps(
        {"completion_id": "0.0", "prompt_token_ids": [5], "token_ids": [6], "logps": [1e400]}
    ).replace("Infinity", "1e308")
    place.sample.canary.write_text(nothing + "\n")
    with pytest.raises(StageError, match="is not the one to be trained"):
        place.train()


def test_samples_without_a_canary_are_trained_on(tmp_path: Path) -> None:
    summary = TrainPlace(tmp_path).train()
    assert "canary_diff_mean" not in summary
