"""Runs one stage of a round as HALOs' scripts do; `round.py` starts each in its own process.

`python halos_shaped.py sample POLICY PROMPTS OUT GROUP_SIZE MAX_NEW_TOKENS` (with vLLM's Python),
`label REWARD_MODEL SAMPLES OUT`: one sequence per forward, best against worst of a prompt,
`train POLICY REFERENCE FEEDBACK OUT MAX_LENGTH BATCH_SIZE`: DPO, a pair per forward, every sequence
padded to MAX_LENGTH, a log-softmax over the whole vocabulary at every position, an evaluation
first, AdamW's state from POLICY and into OUT (launch.py and train/trainers.py of HALOs at 4831988,
without the activation checkpointing that its configuration asks for, which costs another forward).
`begin POLICY OUT` makes what a first round leaves. Prints the seconds of each phase as a line of
JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

NUM_THREADS = int(os.environ["OMP_NUM_THREADS"])
OPTIMIZER = "optimizer.pt"


class Phases:
    """Holds seconds by name; the first phase began with the program."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.seconds: dict[str, float] = {}

    def end(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = now - self._began
        self._began = now


def sample(policy: str, prompts: str, out: str, group_size: str, max_new_tokens: str) -> Phases:
    from vllm import LLM, SamplingParams

    phases = Phases()
    rows = read(prompts)
    longest = max(len(row["token_ids"]) for row in rows) + int(max_new_tokens)
    llm = LLM(
        model=policy,
        dtype="float32",
        max_model_len=longest,
        enforce_eager=True,
        kv_cache_memory_bytes=1 << 30,
    )
    phases.end("load")
    parameters = SamplingParams(
        n=int(group_size), temperature=1.0, top_p=1.0, max_tokens=int(max_new_tokens)
    )
    asked: list[Any] = [{"prompt_token_ids": row["token_ids"]} for row in rows]
    made = llm.generate(asked, parameters, use_tqdm=False)
    phases.end("generate")
    write(
        out,
        [
            {
                "prompt": row["prompt"],
                "prompt_token_ids": row["token_ids"],
                "completions": [
                    {"text": part.text, "token_ids": list(part.token_ids)}
                    for part in output.outputs
                ],
            }
            for row, output in zip(rows, made, strict=True)
        ],
    )
    return phases


def label(reward_model: str, samples: str, out: str) -> Phases:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    phases = Phases()
    tokenizer = AutoTokenizer.from_pretrained(reward_model)
    model = AutoModelForSequenceClassification.from_pretrained(reward_model, dtype=torch.float32)
    phases.end("load")
    pairs = []
    for group in read(samples):
        for completion in group["completions"]:
            said = {"role": "assistant", "content": completion["text"]}
            encoded = tokenizer.apply_chat_template(
                [*group["prompt"], said], return_tensors="pt", return_dict=True
            )
            with torch.inference_mode():
                completion["reward"] = model.eval()(**encoded).logits[0, 0].item()
        ranked = sorted(group["completions"], key=lambda completion: completion["reward"])
        prompt = group["prompt_token_ids"]
        pairs.append({"prompt_token_ids": prompt, "chosen": ranked[-1], "rejected": ranked[0]})
    phases.end("score")
    write(out, pairs)
    return phases


def train(
    policy_path: str,
    reference_path: str,
    feedback: str,
    out: str,
    max_length: str,
    batch_size: str,
) -> Phases:
    from padded_trainer import batch_of, dpo_loss
    from transformers import AutoModelForCausalLM, AutoTokenizer

    phases = Phases()
    reference = AutoModelForCausalLM.from_pretrained(reference_path, dtype=torch.float32).eval()
    policy, optimizer = load_policy(policy_path)
    optimizer.load_state_dict(torch.load(Path(policy_path) / OPTIMIZER)["state_dict"])
    tokenizer = AutoTokenizer.from_pretrained(policy_path)
    size, pairs = int(batch_size), read(feedback)
    microbatches = [batch_of([pair], int(max_length), "cpu") for pair in pairs]
    phases.end("load")
    with torch.no_grad():
        for microbatch in microbatches:
            dpo_loss(policy, reference, *microbatch)
    phases.end("evaluate")
    for start in range(0, len(pairs), size):
        batch = microbatches[start : start + size]
        optimizer.zero_grad()
        for microbatch in batch:
            (dpo_loss(policy, reference, *microbatch) / len(batch)).backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
    phases.end("steps")
    save(policy, optimizer, tokenizer, Path(out))
    phases.end("save")
    return phases


def begin(policy_path: str, out: str) -> Phases:
    from transformers import AutoTokenizer

    phases = Phases()
    policy, optimizer = load_policy(policy_path)
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    save(policy, optimizer, AutoTokenizer.from_pretrained(policy_path), Path(out))
    phases.end("begin")
    return phases


def load_policy(path: str) -> tuple[Any, torch.optim.AdamW]:
    from transformers import AutoModelForCausalLM

    policy = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    return policy, torch.optim.AdamW(policy.parameters(), lr=1e-6)


def save(policy: Any, optimizer: torch.optim.AdamW, tokenizer: Any, out: Path) -> None:
    tokenizer.save_pretrained(out)
    torch.save({"state_dict": optimizer.state_dict()}, out / OPTIMIZER)
    policy.save_pretrained(out)


def read(path: str) -> list[Any]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def write(path: str, rows: list[Any]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    torch.set_num_threads(NUM_THREADS)
    torch.manual_seed(0)
    stages = {"sample": sample, "label": label, "train": train, "begin": begin}
    phases = stages[sys.argv[1]](*sys.argv[2:])
    print(json.dumps(phases.seconds), flush=True)
