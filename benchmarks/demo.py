"""The demo from an empty cache: wall time, building apart, and peak memory; prints one JSON object.

Memory is the summed PSS of the client, the supervisor and all stages, sampled five times a second.
Every process of the demo is known by the cache directory in its environment, which is this
benchmark's own: the supervisor is no descendant of the client.
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
from halos_backend.embedded.build import embedded_files
from halos_backend.embedded.recipe import Recipe

SAMPLE_S = 0.2


def summed_pss(cache: str) -> int:
    """Bytes of every process whose cache directory is `cache`."""
    total = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("HALOS_CACHE_DIR") == cache:
                total += process.memory_full_info().pss
    return total


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        cache = Path(folder) / "cache"
        built = embedded_files(Recipe(), cache).path
        command = [sys.executable, "-m", "halos_tui", "demo", "--no-ui", "--json", "--name", "demo"]
        started = time.monotonic()
        child = subprocess.Popen(
            [*command, "--runs-dir", f"{folder}/runs"],
            env={**os.environ, "HALOS_CACHE_DIR": str(cache)},
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        build_s: float | None = None
        peak = 0
        while child.poll() is None:
            if build_s is None and built.exists():
                build_s = time.monotonic() - started
            peak = max(peak, summed_pss(str(cache)))
            time.sleep(SAMPLE_S)
        wall_s = time.monotonic() - started
        if child.returncode != 0 or build_s is None:
            said.seek(0)
            reason = said.read().decode(errors="replace")
            raise SystemExit(f"the demo ended with exit code {child.returncode}:\n{reason}")
    result = {
        "benchmark": "demo",
        "wall_s": round(wall_s, 1),
        "build_s": round(build_s, 1),
        "peak_pss_bytes": peak,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
