"""What the round is compared with works: the plain programs, one after another, on tiny models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
TINY = {
    "vocab_size": 16384,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
MAKE = """
import sys
from pathlib import Path
from synthetic import make_model
shape = {shape}
make_model(Path(sys.argv[1]) / "policy", shape=shape)
make_model(Path(sys.argv[1]) / "judge", shape=shape, classifier=True)
"""


def run(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_round_shaped_like_that_of_halos_labels_and_trains(tmp_path: Path) -> None:
    run("-c", MAKE.format(shape=TINY), tmp_path)
    samples = [
        {
            "prompt": [{"role": "user", "content": f"w{number}"}],
            "prompt_token_ids": [1, number, 2, 3],
            "completions": [
                {"text": f"w{number + k} w9", "token_ids": [number + k, 9]} for k in range(3)
            ],
        }
        for number in (10, 20, 30)
    ]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))
    program, policy, begun = BENCHMARKS / "halos_shaped.py", tmp_path / "policy", tmp_path / "begun"
    run(program, "begin", policy, begun)
    run(program, "label", tmp_path / "judge", tmp_path / "samples.jsonl", tmp_path / "pairs.jsonl")
    said = run(
        *(program, "train", begun, policy, tmp_path / "pairs.jsonl", tmp_path / "trained", 16, 2)
    )
    pairs = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert all(pair["chosen"]["reward"] >= pair["rejected"]["reward"] for pair in pairs)
    assert list(json.loads(said)) == ["load", "evaluate", "steps", "save"]
    steps = torch.load(tmp_path / "trained/optimizer.pt")["state_dict"]["state"][0]["step"]
    assert steps == 1 + 2, "two steps of two pairs and one, after the one that it began with"
    before, after = (
        AutoModelForCausalLM.from_pretrained(path).lm_head.weight
        for path in (policy, tmp_path / "trained")
    )
    assert not torch.equal(before, after)
