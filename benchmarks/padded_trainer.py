"""This is the plain trainer that `train.py` compares with: DPO steps on padded pairs.

Pairs are padded to `max_length`; every step takes a log-softmax over the whole vocabulary at every
position, and the reference's forward.

`python padded_trainer.py MODEL FEEDBACK MAX_LENGTH BATCH_SIZE DEVICE` prints {"seconds",
"examples", "peak_bytes"}. On a GPU it computes in bf16 on fp32 weights, and the bytes are its own.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel


def pad(pair: dict, side: str, max_length: int) -> tuple[list[int], list[int]]:
    prompt, completion = pair["prompt_token_ids"], pair[side]["token_ids"]
    ids = [*prompt, *completion]
    labels = [-100] * len(prompt) + completion
    missing = max_length - len(ids)
    return ids + [0] * missing, labels + [-100] * missing


def sequence_logps(model: PreTrainedModel, ids: Tensor, labels: Tensor) -> Tensor:
    logits = model(ids, attention_mask=(ids != 0).long(), use_cache=False).logits[:, :-1].float()
    logps = logits.log_softmax(-1)
    labels = labels[:, 1:]
    mask = labels != -100
    return (logps.gather(2, labels.masked_fill(~mask, 0)[..., None])[..., 0] * mask).sum(-1)


def batch_of(pairs: list[dict], max_length: int, device: str) -> tuple[Tensor, Tensor]:
    """Returns ids and labels, (2 * pairs, max_length) each: all chosen, then all rejected."""
    rows = [pad(pair, side, max_length) for side in ("chosen", "rejected") for pair in pairs]
    ids, labels = torch.tensor([row[0] for row in rows]), torch.tensor([row[1] for row in rows])
    return ids.to(device), labels.to(device)


def dpo_loss(
    policy: PreTrainedModel, reference: PreTrainedModel, ids: Tensor, labels: Tensor
) -> Tensor:
    with torch.no_grad():
        reference_logps = sequence_logps(reference, ids, labels)
    chosen, rejected = (sequence_logps(policy, ids, labels) - reference_logps).chunk(2)
    return -F.logsigmoid(0.1 * (chosen - rejected)).mean()


def main(model_path: str, feedback: str, max_length: int, batch_size: int, device: str) -> None:
    torch.set_num_threads(1)
    policy = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).to(device)
    reference = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    reference = reference.to(device).eval()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-5)
    with open(feedback) as file:  # noqa: PTH123
        pairs = [json.loads(line) for line in file]
    started = time.monotonic()
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = dpo_loss(policy, reference, *batch_of(batch, max_length, device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.monotonic() - started
    print(json.dumps({"seconds": seconds, "examples": len(pairs), "peak_bytes": peak(device)}))


def peak(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
