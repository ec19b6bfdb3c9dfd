"""Shows whether the demo learns: first against last policy on held-out prompts, as one JSON object.

`python embedded_learns.py [--all-losses] [NAME...]` runs dpo, kto, grpo and three relatives of grpo
with three seeds each, and with the option every other loss of the demo with one; with names, those
alone. Differences and their standard errors are paired over prompts.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from synthetic import measure

AT_ONCE = 2
RELATIVES = {
    "gspo": {"ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4, "aggregation": "sequence"},
    "cispo": {"cispo_cap": 5},
    "rloo": {
        "baseline": "leave_one_out",
        "scale_advantages": False,
        "kl_in": "reward",
        "ratio": "product",
        "aggregation": "sequence",
    },
}
"""Lists what a relative of grpo sets in [train.loss]; the rest is as in the demo of grpo."""
THREE_TIMES = ("dpo", "kto", "grpo", *RELATIVES)
MIN_DIFFERENCE = 0.05
MIN_STDERRS = 3.0

Row = dict[str, Any]


def evaluate(model: Path, held_out: Path) -> list[float]:
    """Returns the share solved of each held-out prompt, in a process with its own random
    numbers.
    """
    program = [sys.executable, "-m", "halos_backend.embedded.evaluate", str(model), str(held_out)]
    shares: list[float] = json.loads(measure(program).stdout)["shares"]
    return shares


def run_demo(loss: str, seed: int, *, runs: Path, held_out: Path, initial: list[float]) -> Row:
    name = f"{loss}-{seed}"
    own = RELATIVES.get(loss, {})
    kind = "grpo" if own else loss
    command = [sys.executable, "-m", "halos_tui", "demo", "--loss", kind, "--no-ui", "--json"]
    options = ["--name", name, "--set", f"loop.seed={seed}", "--runs-dir", str(runs)]
    for key, value in own.items():
        options += ["--set", f"train.loss.{key}={json.dumps(value)}"]
    finished = measure([*command, *options])
    final = evaluate(runs / name / "final", held_out)
    differences = [after - before for after, before in zip(final, initial, strict=True)]
    difference = statistics.fmean(differences)
    stderr = statistics.stdev(differences) / math.sqrt(len(differences))
    return {
        "loss": loss,
        "seed": seed,
        "initial": round(statistics.fmean(initial), 4),
        "final": round(statistics.fmean(final), 4),
        "difference": round(difference, 4),
        "stderr_of_difference": round(stderr, 4),
        "is_better": difference >= MIN_DIFFERENCE and difference >= MIN_STDERRS * stderr,
        "seconds": round(finished.wall_s, 1),
    }


def main() -> None:
    from halos_backend.embedded.build import embedded_files
    from halos_backend.embedded.demo import LOSSES
    from halos_backend.embedded.recipe import Recipe

    named = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    cases = [(loss, seed) for loss in named or THREE_TIMES for seed in (0, 1, 2)]
    if "--all-losses" in sys.argv:
        cases += [(loss, 0) for loss in LOSSES if loss not in THREE_TIMES]
    build = [sys.executable, "-m", "halos_backend.embedded.demo"]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    files = embedded_files(Recipe())
    initial = evaluate(files.policy, files.held_out)
    with tempfile.TemporaryDirectory() as runs, ThreadPoolExecutor(AT_ONCE) as pool:
        demo = partial(run_demo, runs=Path(runs), held_out=files.held_out, initial=initial)
        rows = list(pool.map(lambda case: demo(*case), cases))
    result = {
        "benchmark": "embedded_learns",
        "stderr_is": "paired over prompts",
        "num_prompts": len(initial),
        "rows": rows,
        "all_better": all(row["is_better"] for row in rows),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
