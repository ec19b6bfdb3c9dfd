"""Predicts how a warm round grows: a model of its seconds, fitted at one size, tested at others.

A round of N prompts with G completions each, P tokens a prompt and C a completion, costs

    sample   N G C / s              s: tokens sampled a second
    label    N (P + G C) / j        j: tokens judged a second
    train    (T + K) / f + E T / t    f, t: tokens a second forward, and forward and backward
    fixed    weights taken over, canary, checkpoint: by the policy's size alone

where T = N (P + 2 C) for a pair of each prompt and N (P + G C) for losses on groups, K = 2 M (P +
C) for the KL of M completions (train.num_kl_completions), and E epochs. Where rows are
padded, on GPUs, every completion has its prompt: G (P + C) and 2 (P + C) instead. Over several GPUs
the rates s, j, f, t add up; the fixed part does not shrink. The rates here come from the first
size's round; what is compared is the other sizes' whole rounds. Prints one JSON object.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from synthetic import median
from whole_runs import Size, Table, check_set_up, make_reward_model, run_ours

SIZES = {
    "base": Size(16, 4, 64),
    "prompts": Size(32, 4, 64),
    "group": Size(16, 8, 64),
    "length": Size(16, 4, 128),
}
NUM_ROUNDS = 3


def rates_of(measured: Table) -> Table:
    """Returns tokens a second of each kind of work, and the seconds that are none."""
    tokens, seconds = measured["tokens"], measured["phase_seconds"]
    train = seconds["train"]
    return {
        "sampled": tokens["sampled"] / seconds["sample"]["generating"],
        "scored": tokens["scored"] / seconds["label"]["scoring"],
        "forward": (tokens["trained"] + tokens["kl"]) / (forward_seconds(train)),
        "trained": tokens["trained"] / train["training"],
        "fixed_seconds": measured["seconds"] - measured["computing_seconds"],
    }


def forward_seconds(phases: Table) -> float:
    return phases["reference log-probabilities"] + phases["KL to the initial policy"]


def predicted(tokens: Table, rates: Table) -> float:
    """Returns the seconds of a round."""
    return float(
        tokens["sampled"] / rates["sampled"]
        + tokens["scored"] / rates["scored"]
        + (tokens["trained"] + tokens["kl"]) / rates["forward"]
        + tokens["trained"] / rates["trained"]
        + rates["fixed_seconds"]
    )


def main() -> None:
    check_set_up()
    rounds: dict[str, list[Table]] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_reward_model(work / "reward_model")
        for name, size in SIZES.items():
            rounds[name] = run_ours(
                work / name, work / "reward_model", size, num_rounds=NUM_ROUNDS, is_warm=True
            )
    fitted = [rates_of(each) for each in rounds["base"]]
    rates = {name: median([each[name] for each in fitted]) for name in fitted[0]}
    compared = {
        name: {
            "seconds": median([each["seconds"] for each in measured]),
            "predicted_seconds": median([predicted(each["tokens"], rates) for each in measured]),
            "ratio": median(
                [predicted(each["tokens"], rates) / each["seconds"] for each in measured]
            ),
        }
        for name, measured in rounds.items()
    }
    print(json.dumps({"benchmark": "cost_model", "rates": rates, "sizes": compared}))


if __name__ == "__main__":
    main()
