"""Whole runs that sample with vLLM in one environment and train in another."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.foreign import changed_python
from tests.support.place import Place, make_policy
from tests.support.waiting import wait_for
from tests.vllm.conftest import make_place, make_tiny_policy

pytestmark = pytest.mark.vllm


KEEPS_OLD_WEIGHTS = """
from halos_backend.stages.sample.vllm_reload import ReloadingWorker
ReloadingWorker.halos_reload = lambda self, weights_path: None
"""


def summaries(place: Place, run: str, stage: str) -> list[dict[str, Any]]:
    return [
        event["summary"]
        for event in place.events(run)
        if event["type"] == "StageFinished" and event["stage"] == stage
    ]


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory, plain_python: str) -> Place:
    """A place with the finished run `cold`: two rounds, an engine of its own for each."""
    place = make_place(tmp_path_factory.mktemp("cold"))
    run(place, "cold", sample__python=plain_python, launch__warm_workers=False)
    return place


def run(place: Place, name: str, **settings: Any) -> None:
    """To its good end."""
    done = place.halos("run", str(place.config(**settings)), "--no-ui", "--name", name)
    assert done.code == 0, done.stderr


def sampler_pids(place: Place, name: str) -> list[int]:
    """Of each sample stage that was started, in order."""
    return [
        event["process"]["pid"]
        for event in events_so_far(place, name)
        if event["type"] == "StageStarted" and event["stage"] == "sample"
    ]


def events_so_far(place: Place, name: str) -> list[dict[str, Any]]:
    """Of a run that may still be writing: without a line that is half written."""
    journal = place.runs / name / "events.jsonl"
    if not journal.is_file():
        return []
    lines = journal.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def assert_same(place: Place, name: str) -> None:
    """The completions of both rounds and the final weights are those of `cold`."""
    for round in (1, 2):
        expected, found = (
            sorted((place.runs / run / f"rounds/{round:04d}/sample").glob("*/DONE"))[-1]
            for run in ("cold", name)
        )
        assert found.with_name("completions.jsonl").read_bytes() == (
            expected.with_name("completions.jsonl").read_bytes()
        )
    assert place.weights(name) == place.weights("cold")


def test_a_run_samples_elsewhere_and_trains_what_was_sampled(cold: Place) -> None:
    sampled, trained = (summaries(cold, "cold", stage) for stage in ("sample", "train"))
    assert [summary["engine"].split()[0] for summary in sampled] == ["vllm", "vllm"]
    assert "cpu" in sampled[0]["engine_reason"]
    assert len(set(sampler_pids(cold, "cold"))) == 2
    for summary in trained:
        assert summary["canary_diff_mean"] < summary["canary_diff_limit"] == 1e-4
        assert summary["num_canary_tokens"] >= 6


def test_a_warm_engine_makes_the_same_policy(cold: Place, vllm_python: str) -> None:
    run(cold, "warm", sample__python=vllm_python, launch__warm_workers=True)
    assert len(set(sampler_pids(cold, "warm"))) == 1
    assert_same(cold, "warm")


def test_kills_of_the_warm_engine_lose_nothing(cold: Place, plain_python: str) -> None:
    """While it is idle after round 1, and at work in round 2."""
    config = str(cold.config(sample__python=plain_python, launch__warm_workers=True))
    process = cold.start("run", config, "--no-ui", "--name", "killed")

    def happened(kind: str, round: int) -> bool:
        return any(
            (event["type"], event.get("stage"), event.get("round")) == (kind, "sample", round)
            for event in events_so_far(cold, "killed")
        )

    for kind, round in (("StageFinished", 1), ("StageStarted", 2)):
        wait_for(lambda kind=kind, round=round: happened(kind, round))
        os.kill(sampler_pids(cold, "killed")[-1], signal.SIGKILL)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert len(set(sampler_pids(cold, "killed"))) == 3
    assert_same(cold, "killed")


def test_an_engine_that_keeps_the_old_weights_is_found_out_and_the_round_sampled_anew(
    cold: Place, vllm_python: str, tmp_path: Path
) -> None:
    """A reload that does nothing, as one of vLLM's once did; a fresh engine needs none."""
    python = changed_python(tmp_path / "broken", vllm_python, KEEPS_OLD_WEIGHTS)
    config = str(cold.config(sample__python=python, launch__warm_workers=True))
    done = cold.halos("run", config, "--no-ui", "--name", "stale")
    assert done.code == 0, done.stderr
    (told,) = [event for event in cold.events("stale") if event["type"] == "StageFailed"]
    assert (told["round"], told["stage"], told["cause"]) == (2, "train", "other_policy")
    assert "the policy that sampled round 2 is not the one to be trained" in told["reason"]
    assert "the round is sampled anew" in done.stdout
    wrong, right = (
        cold.runs / f"stale/rounds/0002/sample/attempt_{n}/completions.jsonl" for n in (1, 2)
    )
    assert wrong.read_bytes() != right.read_bytes()
    assert_same(cold, "stale")


def test_a_policy_in_bfloat16_is_within_what_its_dtype_explains(
    place: Place, vllm_python: str
) -> None:
    config = place.config(sample__python=vllm_python, policy__dtype="bfloat16", loop__num_rounds=1)
    done = place.halos("run", str(config), "--no-ui", "--name", "low")
    assert done.code == 0, done.stderr
    for summary in summaries(place, "low", "train"):
        assert 1e-6 < summary["canary_diff_mean"] < summary["canary_diff_limit"]


def test_a_policy_that_vllm_cannot_hold_is_told_before_the_start(
    place: Place, vllm_python: str
) -> None:
    """Heads of 8 have no kernel on a CPU."""
    policy = place.path / "small_heads"
    make_policy(policy)
    config = str(place.config(sample__python=vllm_python, policy__path=str(policy)))
    asked = place.halos("run", config, "--no-ui", "--dry-run", "--set", "sample.engine=vllm")
    assert asked.code == 2
    assert "no kernel for heads of 8" in asked.stderr
    assert "sample.engine = 'transformers'" in asked.stderr
    examined = place.halos("doctor", config)
    line = next(line for line in examined.stdout.splitlines() if "sampler" in line)
    assert "transformers" in line
    assert "no kernel for heads of 8" in line


def test_an_argument_that_vllm_does_not_have_is_named_with_the_nearest(
    place: Place, vllm_python: str
) -> None:
    config = str(place.config(sample__python=vllm_python))
    wrong = ["--set", "sample.vllm.arguments.max_num_seq=4"]
    refused = place.halos("run", config, "--no-ui", *wrong, "--name", "never")
    assert refused.code == 2
    assert "did you mean 'max_num_seqs'" in refused.stderr
    assert not (place.runs / "never").exists()


def test_smollm2_samples_with_vllm_and_trains_with_ours(
    place: Place, vllm_python: str, tmp_path: Path
) -> None:
    policy = os.environ.get("HALOS_SMOLLM2")
    if policy is None or not Path(policy, "config.json").is_file():
        pytest.skip("SmolLM2 is not unpacked; make test-vllm does it")
    config = place.config(
        policy__path=policy,
        sample__python=vllm_python,
        sample__group_size=2,
        sample__max_new_tokens=12,
        loop__prompts_per_round=2,
        train__lr=1e-5,
        train__num_kl_completions=2,
        launch__num_threads=1,
    )
    done = place.halos("run", str(config), "--no-ui", "--name", "smollm2")
    assert done.code == 0, done.stderr
    trained = summaries(place, "smollm2", "train")
    assert len(trained) == 2
    assert all(summary["canary_diff_mean"] < 1e-4 for summary in trained)
    final = json.loads((place.runs / "smollm2" / "final" / "config.json").read_text())
    assert final["tie_word_embeddings"] is True


def test_the_tiny_policy_has_heads_that_vllm_takes(tmp_path: Path) -> None:
    config = json.loads((make_tiny_policy(tmp_path / "policy") / "config.json").read_text())
    assert config["head_dim"] == 32
