"""A vLLM server on the CPU as the judge behind an API: real answers, held to a schema."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.label_fixtures import (
    completion,
    done_summary,
    group,
    make_attempt,
    reasons_of,
    rewards_of,
    run_stage_process,
    scores,
)
from tests.support.place import Place
from tests.support.waiting import wait_for

pytestmark = pytest.mark.vllm
SMOLLM2 = "HALOS_SMOLLM2"
STARTING_S = 240.0
ENDING_S = 30.0


@pytest.fixture(scope="module")
def server(plain_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of SmolLM2."""
    model = os.environ.get(SMOLLM2)
    if model is None or not Path(model, "config.json").is_file():
        pytest.skip("SmolLM2 is not here; run make test-vllm")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [plain_python, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", model, "--served-model-name", "a-judge", "--dtype", "float32"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", "1024"]
    command += ["--enforce-eager", "--max-num-seqs", "16"]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: _is_up(url, process, log), "the server", deadline_s=STARTING_S)
        yield f"{url}/v1"
    finally:
        process.terminate()
        process.wait(timeout=ENDING_S)


def _is_up(url: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()[-2000:]
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=1.0) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.mark.parametrize("compare", [None, {"opponents": "all"}])
def test_a_real_server_judges(tmp_path: Path, server: str, compare: dict[str, str] | None) -> None:
    texts = ["Paris is the capital of France.", "I do not know.", "Berlin.", "Paris."]
    rows = [completion(f"c{number}", text) for number, text in enumerate(texts)]
    groups = [group("p", rows, content="What is the capital of France?")]
    judge = {
        "kind": "api",
        "model": "a-judge",
        "base_url": server,
        "temperature": 0.0,
        "max_answer_tokens": 64,
        "max_tokens": 100_000,
        **({"compare": compare} if compare else {}),
    }
    path = make_attempt(tmp_path / "attempt", groups, judge)
    assert run_stage_process(path) == 0
    summary = done_summary(path)
    num_questions = 12 if compare else 4
    assert (summary["num_judge_answers"], summary["num_judge_failed"]) == (num_questions, 0)
    assert summary["num_judge_prompt_tokens"] > 40 * num_questions
    answers = list(zip(rewards_of(path), reasons_of(path), strict=True))
    assert any(reward is not None for reward, _ in answers), answers
    assert all((reward is None) != (reason is None) for reward, reason in answers)
    if compare:
        assert summary["num_judge_matches"] <= 6
    else:
        scored = [entry for entry in scores(path)[0].completions if entry.reward is not None]
        assert all(entry.components == {"score": entry.reward} for entry in scored)

    again = make_attempt(tmp_path / "again", groups, judge)
    assert run_stage_process(again) == 0
    assert rewards_of(again) == rewards_of(path)
    assert done_summary(again)["num_judge_reused"] == num_questions


def test_smollm2_is_sampled_with_vllm_and_judged_by_a_vllm_server(
    place: Place, vllm_python: str, server: str
) -> None:
    questions = ["What is 2 + 3?", "Name a colour.", "What is 4 times 5?", "Which month is first?"]
    rows = [json.dumps({"prompt": question}) + "\n" for question in questions]
    (place.path / "prompts.jsonl").write_text("".join(rows))
    config = place.config(
        policy__path=os.environ[SMOLLM2],
        sample__python=vllm_python,
        sample__group_size=4,
        sample__max_new_tokens=24,
        loop__prompts_per_round=2,
        loop__overlap=True,
        train__lr=1e-5,
        train__num_kl_completions=2,
        label__judge__function=None,
        label__judge__kind="api",
        label__judge__model="a-judge",
        label__judge__base_url=server,
        label__judge__temperature=0.0,
        label__judge__max_answer_tokens=48,
        guards__unscored__action="off",
    )
    done = place.halos("run", str(config), "--no-ui", "--name", "smollm2")
    assert done.code == 0, done.stderr
    labelled = [
        event["summary"]
        for event in place.events("smollm2")
        if event["type"] == "StageFinished" and event["stage"] == "label"
    ]
    assert len(labelled) == 2
    for summary in labelled:
        assert summary["num_completions"] == 8
        assert summary["num_unscored"] < 8 and summary["num_judge_failed"] == 0
        assert summary["num_judge_answers"] + summary["num_judge_reused"] >= 1
