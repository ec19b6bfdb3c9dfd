"""The demo from an empty cache: wall time, building apart, and peak memory; prints one JSON object.

Memory is the summed PSS of the client, the supervisor and all stages, sampled five times a second.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

SAMPLE_S = 0.2


def summed_pss(marks: tuple[str, ...]) -> int:
    """Bytes of every process whose command line names one of `marks`, and of its children."""
    total = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(mark in part for part in process.cmdline() for mark in marks):
                total += process.memory_full_info().pss
    return total


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        runs, cache = Path(folder) / "runs", Path(folder) / "cache"
        environment = {**os.environ, "HALOS_CACHE_DIR": str(cache)}
        command = [sys.executable, "-m", "halos_tui", "demo", "--no-ui", "--json", "--name", "demo"]
        started = time.monotonic()
        child = subprocess.Popen(
            [*command, "--runs-dir", str(runs)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        built_s: float | None = None
        peak = 0
        while child.poll() is None:
            if built_s is None and runs.exists():
                built_s = time.monotonic() - started
            peak = max(peak, summed_pss((folder, "halos_backend.embedded")))
            time.sleep(SAMPLE_S)
        wall_s = time.monotonic() - started
    if child.returncode != 0 or built_s is None:
        raise SystemExit(f"the demo ended with exit code {child.returncode}")
    print(
        json.dumps(
            {
                "benchmark": "demo",
                "wall_s": round(wall_s, 1),
                "build_s": round(built_s, 1),
                "peak_pss_bytes": peak,
            }
        )
    )


if __name__ == "__main__":
    main()
