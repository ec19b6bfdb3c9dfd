"""Computes with Liger's own kernels where Triton is, interpreted on the CPU: no GPU is needed.

`python drive_liger.py IDS POLICY...` prints a list of {"reason", "used", "logps", "gradients",
"back"} for each policy; of each gradient the norm of the difference relative to its own, and if the
the model then computes as before; for the summed log-probabilities of the ids, a JSON list.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
import triton.language as tl
from halos_backend.stages.train.kernels import use_liger, uses_liger, without_liger
from transformers import AutoModelForCausalLM
from triton.runtime import interpreter


def complete_the_interpreter() -> None:
    """It hands a kernel Python's numbers for floats, and knows no function of CUDA's library."""
    convert = interpreter._implicit_cvt

    def converted(argument: Any) -> Any:
        if not isinstance(argument, float):
            return convert(argument)
        handle = interpreter.TensorHandle(np.array([argument], dtype=np.float32), tl.float32)
        return tl.tensor(handle, tl.float32)

    def rsqrt(x: Any) -> Any:
        return tl.tensor(
            interpreter.TensorHandle(1 / np.sqrt(x.handle.data), x.handle.dtype), x.type
        )

    interpreter._implicit_cvt = converted
    from liger_kernel.ops import rms_norm

    rms_norm.rsqrt = rsqrt


def summed_logps(model: Any, ids: torch.Tensor) -> torch.Tensor:
    logps = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    summed: torch.Tensor = logps.gather(1, ids[0, 1:, None]).sum()
    return summed


def main() -> None:
    ids = torch.tensor([json.loads(sys.argv[1])])
    complete_the_interpreter()
    print(json.dumps([compare(policy, ids) for policy in sys.argv[2:]]))  # noqa: T201


def compare(policy: str, ids: torch.Tensor) -> dict[str, Any]:
    model, plain = (
        AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32) for _ in range(2)
    )
    reason = use_liger(model)
    logps = {}
    for name, each in (("liger", model), ("torch", plain)):
        summed = summed_logps(each, ids)
        summed.backward()
        logps[name] = summed.item()
    gradients = {
        name: float((weight.grad - other.grad).norm() / other.grad.norm())
        for (name, weight), other in zip(model.named_parameters(), plain.parameters(), strict=True)
    }
    used = uses_liger(model)
    without_liger(model)
    back = torch.equal(model(input_ids=ids).logits, plain(input_ids=ids).logits)
    return {"reason": reason, "used": used, "logps": logps, "gradients": gradients, "back": back}


if __name__ == "__main__":
    main()
