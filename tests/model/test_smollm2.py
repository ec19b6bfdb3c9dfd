"""A real model end to end: SmolLM2-135M-Instruct, GSM8K prompts, a judge of numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).parents[2]
PROMPTS = ROOT.parent / "shared" / "data" / "gsm8k_train_1000.jsonl"

RUN_FILE = """
[policy]
path = "{policy}"

[prompts]
path = "{prompts}"
prompt = "question"

[loop]
num_rounds = 1
prompts_per_round = 8
score_final = false

[sample]
group_size = 4
max_new_tokens = 96
temperature = 1.0
batch_size = 16

[label.judge]
kind = "function"
function = "{judge}:reward"

[label.feedback]
kind = "pairwise"

[train]
lr = 1e-5
batch_size = 4
schedule = "constant"
warmup_frac = 0.0
num_kl_completions = 8

[train.loss]
kind = "dpo"
beta = 0.1
"""


@pytest.fixture
def policy() -> Path:
    path = os.environ.get("HALOS_SMOLLM2")
    if path is None or not Path(path, "config.json").is_file():
        pytest.skip("SmolLM2 is not unpacked; run make test-model")
    return Path(path)


@pytest.fixture
def prompts() -> Path:
    if not PROMPTS.is_file():
        pytest.skip(f"{PROMPTS.name} is not beside the checkout")
    return PROMPTS


@pytest.mark.model
@pytest.mark.timeout(1200)
def test_one_dpo_round_of_smollm2_on_gsm8k(policy: Path, prompts: Path, tmp_path: Path) -> None:
    config = tmp_path / "gsm8k.toml"
    judge = Path(__file__).with_name("gsm8k_judge.py")
    config.write_text(RUN_FILE.format(policy=policy, prompts=prompts, judge=judge))

    run = [sys.executable, "-m", "halos_tui", "run", str(config), "--no-ui", "--json"]
    finished = subprocess.run(
        [*run, "--name", "gsm8k", "--runs-dir", str(tmp_path / "runs")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": str(os.cpu_count() or 1)},
    )
    assert finished.returncode == 0, finished.stderr

    events = [json.loads(line) for line in finished.stdout.splitlines()]
    summaries = {e["stage"]: e["summary"] for e in events if e["type"] == "StageFinished"}
    assert summaries["sample"]["num_completions"] == 32
    assert summaries["label"]["num_unscored"] == 0
    assert summaries["train"]["num_steps"] == -(-summaries["label"]["num_pairs_kept"] // 4)
    assert summaries["train"]["kl_initial"] == 0.0  # round 1 samples from the initial policy

    final = tmp_path / "runs" / "gsm8k" / "final"
    trained = AutoModelForCausalLM.from_pretrained(final, dtype=torch.float32)
    initial = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    weights = zip(trained.parameters(), initial.parameters(), strict=True)
    moved = max((ours - theirs).abs().max().item() for ours, theirs in weights)
    assert 0 < moved < 1e-2
    tokenizer = AutoTokenizer.from_pretrained(final)
    chat = [{"role": "user", "content": "What is 2 + 3?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
    said = trained.generate(**ids, max_new_tokens=16, do_sample=False)
    assert tokenizer.decode(said[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).strip()
