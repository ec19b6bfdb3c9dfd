"""This is the plain scorer that `label.py` compares with: one conversation per forward.

`python single_scorer.py MODEL COMPLETIONS DEVICE` prints {"seconds", "sequences"}, computed
in the weights' dtype.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def main(model_path: str, completions: str, device: str) -> None:
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = AutoModelForSequenceClassification.from_pretrained(model_path).to(device).eval()
    groups = [json.loads(line) for line in Path(completions).read_text().splitlines()]
    rewards = []
    started = time.monotonic()
    with torch.inference_mode():
        for group in groups:
            for completion in group["completions"]:
                said = {"role": "assistant", "content": completion["text"]}
                encoded = tokenizer.apply_chat_template(
                    [*group["prompt"], said], return_tensors="pt", return_dict=True
                ).to(device)
                rewards.append(model(**encoded).logits[0, 0].item())
    print(json.dumps({"seconds": time.monotonic() - started, "sequences": len(rewards)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
