"""`halos-tui doctor run.toml` finds what `run --dry-run` refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.place import Place


@pytest.fixture
def place(place: Place) -> Place:
    """It has two prompts."""
    (place.path / "prompts.jsonl").write_text('{"prompt": "say a"}\n{"prompt": "say b"}\n')
    return place


def examined(place: Place, **changes: Any) -> tuple[int, list[dict[str, str]]]:
    done = place.halos("doctor", str(place.config(**changes)), "--json")
    assert "Traceback" not in done.stderr
    return done.code, [json.loads(line) for line in done.stdout.splitlines()]


def test_doctor_says_what_a_run_needs(place: Place) -> None:
    code, findings = examined(place)
    texts = {finding["subject"]: finding["text"] for finding in findings}
    assert code == 0
    # 16 bytes for each of 20,640 parameters: weights, gradient, two moments
    assert texts["memory"].startswith("training needs 0 MiB and activations")
    assert texts["disk"].startswith("needs up to ")
    assert texts["prompts"].startswith("2 can be sampled from")
    assert not place.runs.exists()


def test_doctor_finds_all_that_a_dry_run_refuses(place: Place) -> None:
    changes = {
        "policy__path": str(place.path / "nowhere"),
        "prompts__prompt": "question",
        "label__judge__function": f"{place.path}/judge.py:nobody",
    }
    code, findings = examined(place, **changes)
    problems = [finding for finding in findings if finding["level"] == "problem"]
    assert code == 1
    assert {problem["subject"] for problem in problems} == {"judge", "policy", "prompts"}
    refused = place.halos("run", str(place.config(**changes)), "--dry-run")
    assert refused.code == 2
    assert f"halos-tui: {len(problems)} problems\n" in refused.stderr
    for problem in problems:
        said = f"  {problem['subject']}: {problem['text']}"
        assert f"{said}; {problem['fix']}" in refused.stderr or f"{said}\n" in refused.stderr
