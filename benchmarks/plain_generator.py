"""This is the plain sampler that `sample.py` compares with: `model.generate` in file order.

`python plain_generator.py MODEL PROMPTS GROUP_SIZE BATCH_SIZE MAX_NEW_TOKENS END_IDS DEVICE` prints
{"seconds", "tokens"}.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM


def main(
    model_path: str,
    prompts: str,
    group_size: int,
    batch_size: int,
    limit: int,
    end_ids: list[int],
    device: str,
) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(model_path).to(device).eval()
    rows = [json.loads(line)["token_ids"] for line in Path(prompts).read_text().splitlines()]
    per_batch = batch_size // group_size
    num_tokens = 0
    started = time.monotonic()
    with torch.inference_mode():
        for start in range(0, len(rows), per_batch):
            batch = rows[start : start + per_batch]
            width = max(map(len, batch))
            ids = torch.tensor([[0] * (width - len(row)) + row for row in batch], device=device)
            said = model.generate(
                ids,
                attention_mask=(ids != 0).long(),
                do_sample=True,
                temperature=1.0,
                top_p=0.95,
                top_k=0,
                num_return_sequences=group_size,
                max_new_tokens=limit,
                eos_token_id=end_ids,
                pad_token_id=0,
            )
            num_tokens += int((said[:, width:] != 0).sum())
    print(json.dumps({"seconds": time.monotonic() - started, "tokens": num_tokens}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]), json.loads(sys.argv[6]), sys.argv[7])
