"""Measures how often a model solves problems: `python -m halos_backend.embedded.evaluate MODEL
HELD_OUT`.

Completions are sampled as in a run (temperature 1) with plain transformers, several per problem,
and judged by the task's own checker. Greedy decoding would hide what is learnt: the initial
policy's likeliest answer is nearly always right.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from halos_backend.embedded.task import is_exact

MAX_NEW_TOKENS = 10
SAMPLES_PER_PROMPT = 16


def evaluate(model_path: Path, held_out: Path) -> dict[str, Any]:
    """Returns the the `shares` solved of each prompt, their mean `exact`, and its standard error
    `stderr`.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = [json.loads(line) for line in held_out.read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(model_path, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(model_path).eval()
    chats = [[{"role": "user", "content": row["prompt"]}] for row in rows]
    texts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
    with torch.inference_mode():
        ids = model.generate(
            **inputs,
            max_new_tokens=MAX_NEW_TOKENS,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            num_return_sequences=SAMPLES_PER_PROMPT,
        )
    said = tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    shares = [
        statistics.fmean(
            is_exact(row["answer"], text)
            for text in said[number * SAMPLES_PER_PROMPT : (number + 1) * SAMPLES_PER_PROMPT]
        )
        for number, row in enumerate(rows)
    ]
    return {
        "exact": statistics.fmean(shares),
        "stderr": statistics.stdev(shares) / math.sqrt(len(shares)),
        "num_prompts": len(shares),
        "shares": shares,
    }


if __name__ == "__main__":
    print(json.dumps(evaluate(Path(sys.argv[1]), Path(sys.argv[2]))))  # noqa: T201
