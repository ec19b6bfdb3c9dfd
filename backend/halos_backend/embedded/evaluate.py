"""`python -m halos_backend.embedded.evaluate MODEL HELD_OUT`: the share of held-out problems solved.

Greedy decoding with plain transformers, judged by the task's own checker.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from halos_backend.embedded.task import is_exact

MAX_NEW_TOKENS = 10


def evaluate(model_path: Path, held_out: Path) -> dict[str, float]:
    """`exact` with its binomial standard error over `num_prompts` prompts."""
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in held_out.read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(model_path, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(model_path).eval()
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": row["prompt"]}], tokenize=False, add_generation_prompt=True
        )
        for row in rows
    ]
    inputs = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
    with torch.inference_mode():
        ids = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
    said = tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    exact = sum(is_exact(row["answer"], text) for row, text in zip(rows, said, strict=True))
    share = exact / len(rows)
    return {
        "exact": share,
        "stderr": math.sqrt(share * (1 - share) / len(rows)),
        "num_prompts": len(rows),
    }


if __name__ == "__main__":
    print(json.dumps(evaluate(Path(sys.argv[1]), Path(sys.argv[2]))))  # noqa: T201
