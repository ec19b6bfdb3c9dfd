"""`halos-tui doctor run.toml` on a policy that is a directory."""

from __future__ import annotations

import json
from pathlib import Path

from tests.headless.conftest import Halos

RUN = """
[policy]
path = "policy"
[prompts]
path = "prompts.jsonl"
[sample]
engine = "transformers"
[label.judge]
kind = "function"
function = "judge.py:reward"
[label.feedback]
kind = "pairwise"
[train.loss]
kind = "dpo"
[launch]
device = "cpu"
"""


def test_doctor_says_what_a_run_needs_of_a_policy_that_is_there(
    halos: Halos, tmp_path: Path
) -> None:
    policy = tmp_path / "policy"
    policy.mkdir()
    tensor = {"dtype": "F32", "shape": [1 << 20], "data_offsets": [0, 0]}
    header = json.dumps({"weight": tensor}).encode()
    weights = len(header).to_bytes(8, "little") + header
    (policy / "model.safetensors").write_bytes(weights)
    (policy / "config.json").write_text("{}")
    (tmp_path / "run.toml").write_text(RUN)
    lines = halos("doctor", "run.toml", "--json").stdout.splitlines()
    found = {finding["text"] for finding in map(json.loads, lines)}
    # 16 bytes for each of 1,048,576 parameters: weights, gradient, two moments
    assert any(text.startswith("training needs 16 MiB and activations") for text in found)
    assert any(text.startswith("needs up to ") for text in found)
