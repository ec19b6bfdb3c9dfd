"""Standard output that has not all characters, is full, or is closed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from halos_backend.records import Completion, Group, write_rows
from halos_backend.store.run_dir import RunDir

from benchmarks.made_events import Shape
from benchmarks.made_runs import make_run

EMOJI = "caf\u00e9 \U0001f600"


@pytest.fixture
def run(runs: Path) -> RunDir:
    run_dir = make_run(runs / "a-run", Shape(num_rounds=1, num_groups=1))
    said = Completion("p-0", EMOJI, (1,), "stop", reward=1.0)
    group = Group("p", ({"role": "user", "content": "hi"},), (1,), 0, (said,))
    for path in (
        run_dir.attempt(1, "sample", 1).completions,
        run_dir.attempt(1, "label", 1).scores,
    ):
        write_rows(path, [group])
    return run_dir


def shell(command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    halos = f"{sys.executable} -m halos_tui"
    return subprocess.run(
        ["bash", "-c", command.replace("HALOS", halos)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_output_of_ascii_gets_escapes_that_json_reads(
    run: RunDir, environment: dict[str, str]
) -> None:
    ascii = {**environment, "PYTHONIOENCODING": "ascii"}
    plain = shell("HALOS completions a-run", ascii)
    assert plain.returncode == 0
    assert plain.stderr == "round 1, by the policy before its training: 1 completion\n"
    assert r"caf\u00e9 \ud83d\ude00" in plain.stdout
    as_json = shell("HALOS completions a-run --json", ascii)
    (row,) = map(json.loads, as_json.stdout.splitlines())
    assert EMOJI in json.dumps(row, ensure_ascii=False)


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("HALOS list | head -c 1 > /dev/null; exit ${PIPESTATUS[0]}", {0, 1}, ""),
        ("HALOS list > /dev/full", {1}, "halos-tui: standard output: No space left on device\n"),
        ("HALOS list >&-", {0, 1}, ""),
        ("HALOS list 2>&-", {0}, ""),
        ("HALOS list <&-", {0}, ""),
        ("HALOS status nobody >&- 2>&-", {4}, ""),
    ],
)
def test_a_stream_that_is_closed_or_full_ends_in_one_message(
    run: RunDir, environment: dict[str, str], command: str, code: set[int], said: str
) -> None:
    done = shell(command, environment)
    assert done.returncode in code
    assert done.stderr == said
