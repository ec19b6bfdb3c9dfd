"""Does the demo learn? Initial against last policy on held-out prompts; prints one JSON object.

`python embedded_learns.py [--all-losses]`: dpo, kto and grpo with three seeds each, or every loss
of the demo with one. `stderr` is that of the difference paired over prompts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from synthetic import measure

AT_ONCE = 2
MIN_GAIN = 0.05
MIN_STDERRS = 3.0


def evaluate(model: Path, held_out: Path) -> list[float]:
    """Share solved of each held-out prompt."""
    program = [sys.executable, "-m", "halos_backend.embedded.evaluate", str(model), str(held_out)]
    shares: list[float] = json.loads(measure(program).stdout)["shares"]
    return shares


def run_demo(loss: str, seed: int, runs: Path) -> dict[str, Any]:
    from halos_backend.embedded.build import embedded_files
    from halos_backend.embedded.recipe import Recipe

    name = f"{loss}-{seed}"
    command = [sys.executable, "-m", "halos_tui", "demo", "--loss", loss, "--no-ui", "--json"]
    options = ["--name", name, "--set", f"loop.seed={seed}", "--runs-dir", str(runs)]
    finished = measure([*command, *options])
    files = embedded_files(Recipe())
    initial = evaluate(files.policy, files.held_out)
    final = evaluate(runs / name / "final", files.held_out)
    gains = [after - before for after, before in zip(final, initial, strict=True)]
    gain = sum(gains) / len(gains)
    variance = sum((each - gain) ** 2 for each in gains) / (len(gains) - 1)
    stderr = (variance / len(gains)) ** 0.5
    return {
        "loss": loss,
        "seed": seed,
        "initial": round(sum(initial) / len(initial), 4),
        "final": round(sum(final) / len(final), 4),
        "gain": round(gain, 4),
        "stderr": round(stderr, 4),
        "is_better": gain >= MIN_GAIN and gain >= MIN_STDERRS * stderr,
        "wall_s": round(finished.wall_s, 1),
    }


def main() -> None:
    from halos_backend.embedded.demo import LOSSES

    cases = [(loss, seed) for loss in ("dpo", "kto", "grpo") for seed in (0, 1, 2)]
    if "--all-losses" in sys.argv:
        cases = [(loss, 0) for loss in LOSSES]
    build = [sys.executable, "-m", "halos_backend.embedded.demo"]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as runs, ThreadPoolExecutor(AT_ONCE) as pool:
        rows = list(pool.map(lambda case: run_demo(*case, Path(runs)), cases))
    result = {
        "benchmark": "embedded_learns",
        "rows": rows,
        "all_better": all(row["is_better"] for row in rows),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
