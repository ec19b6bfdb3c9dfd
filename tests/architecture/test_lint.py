"""The lint gate, so that the whole gate is one call of pytest."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.lint
def test_the_lint_gate_has_nothing_to_say() -> None:
    done = subprocess.run(
        ["make", "lint"], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
