"""Compares the demo with one whose stages start anew, in turns; prints one JSON object.

It measures seconds on the clock, seconds of processors over all processes, and peak memory;
building the models, from an empty cache, is measured apart. Memory is the summed PSS of the client,
the supervisor and all stages, read five times a second. Every process of the demo is known by the
cache directory in its environment, which is this benchmark's own: the supervisor is no descendant
of the client.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

SAMPLE_S = 0.2
NUM_TURNS = 3
KINDS = {"warm": (), "cold": ("--set", "launch.warm_workers=false")}


class Measured(NamedTuple):
    """Holds one demo, or several: then each number is the median."""

    wall_s: float
    cpu_s: float
    peak_pss_bytes: float


def summed_pss(cache: str) -> int:
    """Adds up the bytes of every process whose cache directory is `cache`."""
    total = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("HALOS_CACHE_DIR") == cache:
                total += process.memory_full_info().pss
    return total


def children_cpu_s() -> float:
    """Returns the seconds of all descendants that have ended; whoever started them waited for
    them.
    """
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def build(cache: Path) -> float:
    """Returns the seconds that it takes to build the models."""
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "halos_backend.embedded.demo"],
        env={**os.environ, "HALOS_CACHE_DIR": str(cache)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.monotonic() - started


def measure(folder: Path, cache: Path, name: str, *options: str) -> Measured:
    """Measures one demo from the command to its end, with the models there."""
    command = [sys.executable, "-m", "halos_tui", "demo", "--no-ui", "--json", "--name", name]
    cpu_s, started, peak = children_cpu_s(), time.monotonic(), 0
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            [*command, "--runs-dir", f"{folder}/runs", *options],
            env={**os.environ, "HALOS_CACHE_DIR": str(cache)},
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        while child.poll() is None:
            peak = max(peak, summed_pss(str(cache)))
            time.sleep(SAMPLE_S)
        wall_s = time.monotonic() - started
        if child.returncode != 0:
            said.seek(0)
            reason = said.read().decode(errors="replace")
            raise SystemExit(f"the demo ended with exit code {child.returncode}:\n{reason}")
    return Measured(wall_s, children_cpu_s() - cpu_s, peak)


def median(found: list[Measured]) -> Measured:
    return Measured(*(statistics.median(values) for values in zip(*found, strict=True)))


def main() -> None:
    found: dict[str, list[Measured]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cache = folder / "cache"
        build_s = build(cache)
        for turn in range(NUM_TURNS):
            for kind, options in KINDS.items():
                found[kind].append(measure(folder, cache, f"{kind}-{turn}", *options))
    warm, cold = (median(found[kind]) for kind in KINDS)
    result = {
        "benchmark": "demo",
        "build_s": round(build_s, 1),
        "wall_s": round(warm.wall_s, 1),
        "cpu_s": round(warm.cpu_s, 1),
        "peak_pss_bytes": int(warm.peak_pss_bytes),
        "cold_wall_ratio": round(cold.wall_s / warm.wall_s, 2),
        "cold_cpu_ratio": round(cold.cpu_s / warm.cpu_s, 2),
        "cold_peak_pss_ratio": round(cold.peak_pss_bytes / warm.peak_pss_bytes, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
