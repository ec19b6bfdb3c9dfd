"""Prints the settings of a demo run: `python -m halos_backend.embedded.demo --loss LOSS --rounds
N`.

Builds the tiny models on first use. Standard output has lines `progress DONE TOTAL WHAT` while it
builds, and last the settings table as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from halos_backend.config.losses import FEEDBACK_OF_LOSS
from halos_backend.embedded.build import ensure_built
from halos_backend.embedded.recipe import EmbeddedFiles, Recipe
from halos_backend.errors import ExitCode, HalosError, UsageError

PROMPTS_PER_ROUND = 128
GROUP_SIZE = 8
NUM_HELD_OUT = 128

LOSSES: dict[str, dict[str, Any]] = {
    "dpo": {"lr": 2e-4, "batch_size": 16, "loss": {"beta": 0.1}},
    "cdpo": {"lr": 2e-4, "batch_size": 16, "loss": {"beta": 0.1, "label_smoothing": 0.1}},
    "ipo": {"lr": 2e-4, "batch_size": 16, "loss": {"tau": 0.5}},
    "simpo": {"lr": 1e-4, "batch_size": 16, "loss": {"beta": 2.0, "gamma_beta_ratio": 0.5}},
    "slic": {"lr": 1e-4, "batch_size": 16, "loss": {"delta": 1.0, "lambda_coef": 0.1}},
    "kto": {"lr": 1e-4, "batch_size": 64, "loss": {"beta": 0.1}},
    "grpo": {"lr": 4e-4, "batch_size": 128, "loss": {"beta": 0.01}},
    "sft": {"lr": 2e-4, "batch_size": 16, "loss": {}},
}
"""Lists what learns well on this task, with a batch's examples counted as each loss counts them."""


def demo_settings(files: EmbeddedFiles, *, loss: str, num_rounds: int) -> dict[str, Any]:
    """Makes a run's settings table. Raises UsageError for a loss that the demo does not have."""
    check_loss(loss)
    chosen = LOSSES[loss]
    return {
        "policy": {"path": str(files.policy)},
        "prompts": {
            "path": str(files.prompts),
            "held_out": str(files.held_out),
            "num_held_out": NUM_HELD_OUT,
        },
        "loop": {"num_rounds": num_rounds, "prompts_per_round": PROMPTS_PER_ROUND, "num_epochs": 9},
        "sample": {
            "group_size": GROUP_SIZE,
            "max_new_tokens": 10,
            "temperature": 1.0,
            "top_p": 1.0,
            "batch_size": 256,
        },
        "label": {
            "judge": {"kind": "reward_model", "path": str(files.reward_model)},
            "feedback": _feedback(loss),
        },
        "train": {
            **chosen,
            "loss": {"kind": loss, **chosen["loss"]},
            "schedule": "constant",
            "warmup_frac": 0.0,
            "adam_beta2": 0.98,
        },
        "launch": {"num_threads": 1, "device": "cpu"},
    }


def check_loss(loss: str) -> None:
    """Raises UsageError for a loss that the demo does not have."""
    if loss not in LOSSES:
        raise UsageError(f"the demo has no loss {loss!r}; it has {', '.join(LOSSES)}")


def _feedback(loss: str) -> dict[str, Any]:
    kind = FEEDBACK_OF_LOSS[loss][0]
    return {"kind": kind, "threshold": "mean"} if kind == "binary" else {"kind": kind}


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--loss", default="dpo")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    try:
        check_loss(arguments.loss)
        files = ensure_built(Recipe(), _report)
        table = demo_settings(files, loss=arguments.loss, num_rounds=arguments.rounds)
    except HalosError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    print(json.dumps(table))  # noqa: T201
    return ExitCode.COMPLETED


def _report(what: str, done: int, total: int) -> None:
    print(f"progress {done} {total} {what}", flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
