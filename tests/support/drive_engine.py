"""Runs a VllmEngine where vLLM is: greedy tokens under one policy after another, by one engine.

`python drive_engine.py JSON`, with {"policies": [...], "prompts": [[...], ...], "max_new_tokens":
n}; prints [[token ids of each prompt], ...] for each policy as its last line.
"""

from __future__ import annotations

import json
import os
import sys

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
os.environ["TORCH_COMPILE_DISABLE"] = "1"


def main() -> None:
    from halos_backend.stages.models import read_tokenizer
    from halos_backend.stages.sample.engine import Request
    from halos_backend.stages.sample.sampling import Ending, Sampling
    from halos_backend.stages.sample.vllm_engine import VllmEngine
    from halos_backend.stages.sample.vllm_fleet import WORKER
    from halos_backend.stages.sample.weights import Weights

    asked = json.loads(sys.argv[1])
    first, *others = asked["policies"]
    tokenizer = read_tokenizer(first, trust_remote_code=False)
    ending = Ending(tokenizer, frozenset({2}), ())
    arguments = {
        "model": first,
        "dtype": "float32",
        "max_model_len": 96,
        "skip_tokenizer_init": True,
        "generation_config": "vllm",
        "enforce_eager": True,
        "kv_cache_memory_bytes": 1 << 27,
        "worker_extension_cls": WORKER,
        "disable_log_stats": True,
    }
    engine = VllmEngine(
        arguments, Weights(first), Sampling(ending, asked["max_new_tokens"], 0.0, 1.0)
    )
    requests = [Request(tuple(prompt), seed=0) for prompt in asked["prompts"]]

    def tokens() -> list[list[int]]:
        made = dict(engine.generate(requests, stepped=lambda: None))
        return [list(made[position].token_ids) for position in range(len(requests))]

    found = [tokens()]
    for policy in others:
        engine.load(policy)
        found.append(tokens())
    engine.close()
    print("\n" + json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
