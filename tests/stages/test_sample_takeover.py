"""What a later attempt takes over from one that was killed, and what it leaves."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from halos_backend.interpreters.engine_choice import EngineChoice
from halos_backend.stages.runtime import open_attempt
from halos_backend.stages.sample.resume import similar_attempts
from halos_backend.store.manifest import read_done, write_done
from halos_backend.store.run_dir import AttemptDir

from tests.support.forks import forking_python
from tests.support.sample_fixtures import SamplePlace, groups_of, run_here, start
from tests.support.waiting import wait_for

MARK = b'"columns":{"row":'


@pytest.fixture
def place(tmp_path: Path) -> SamplePlace:
    return SamplePlace(tmp_path)


@pytest.fixture
def finished(place: SamplePlace) -> AttemptDir:
    """7 prompts, 3 groups of 2 to a batch: batches of 3, 3 and 1 groups."""
    attempt = place.attempt("finished")
    run_here(attempt)
    return attempt


def cut(attempt: AttemptDir, num_lines: int, *, rest: bytes = b"") -> list[bytes]:
    lines = attempt.completions.read_bytes().splitlines(keepends=True)
    attempt.completions.write_bytes(b"".join(lines[:num_lines]) + rest)
    return lines


def test_a_killed_attempt_is_finished_to_the_bytes_of_an_uninterrupted_one(
    place: SamplePlace,
) -> None:
    place.write_prompts([chr(97 + i % 26) * (1 + i % 5) for i in range(150)])
    job = {"group_size": 2, "batch_size": 2, "max_new_tokens": 40}
    killed = place.attempt("killed", **job)
    process = start(killed)
    try:
        wait_for(lambda: killed.completions.is_file() and killed.completions.stat().st_size > 0)
    finally:
        process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL  # it was still at work
    assert read_done(killed.path) is None

    second = place.attempt("second", earlier=[killed], **job)
    process = start(second, python=forking_python())
    assert process.wait(timeout=120) == 0
    manifest = read_done(second.path)
    assert manifest is not None
    assert 2 <= manifest.summary["num_reused"] < 300

    whole = place.attempt("whole", **job)
    process = start(whole, python=forking_python())
    assert process.wait(timeout=120) == 0
    assert second.completions.read_bytes() == whole.completions.read_bytes()


@pytest.mark.parametrize(("num_lines", "num_reused"), [(0, 0), (2, 0), (3, 6), (5, 6), (7, 14)])
def test_whole_batches_are_taken_over_and_the_rest_is_made_again(
    place: SamplePlace, finished: AttemptDir, num_lines: int, num_reused: int
) -> None:
    expected = finished.completions.read_bytes()
    cut(finished, num_lines)
    later = place.attempt("later", earlier=[finished])
    summary = run_here(later).summary.as_json()
    assert summary["num_reused"] == num_reused
    assert (summary["num_prompts"], summary["num_completions"]) == (7, 14)
    assert later.completions.read_bytes() == expected
    assert (summary["tokens_per_s"] is None) == (num_reused == 14)


@pytest.mark.parametrize("torn", [b'{"type":"scalar","prompt_id":"p', b"\x00\xff garbage\n"])
def test_a_torn_or_damaged_line_ends_what_is_taken_over(
    place: SamplePlace, finished: AttemptDir, torn: bytes
) -> None:
    expected = finished.completions.read_bytes()
    cut(finished, 3, rest=torn)
    later = place.attempt("later", earlier=[finished])
    assert run_here(later).summary.num_reused == 6
    assert later.completions.read_bytes() == expected


def test_a_line_that_lacks_only_its_newline_is_not_taken_over(
    place: SamplePlace, finished: AttemptDir
) -> None:
    lines = cut(finished, 0)
    finished.completions.write_bytes(b"".join(lines[:3]).removesuffix(b"\n"))
    later = place.attempt("later", earlier=[finished])
    assert run_here(later).summary.num_reused == 0


def test_the_longest_of_several_attempts_is_taken_over(
    place: SamplePlace, finished: AttemptDir
) -> None:
    short = AttemptDir(place.path / "short")
    shutil.copytree(finished.path, short.path)
    cut(short, 3)
    later = place.attempt("later", earlier=[short, finished])
    assert run_here(later).summary.num_reused == 14


def other_policy(place: SamplePlace) -> dict[str, object]:
    copy = place.path / "copy"
    shutil.copytree(place.policy, copy)
    return {"policy": copy}


@pytest.mark.parametrize(
    "change",
    [
        lambda place: {"seed": 8},
        other_policy,
        lambda place: {"temperature": 0.5},
        lambda place: {"batch_size": 4},
        lambda place: {"loss": {"kind": "csft"}},
    ],
    ids=["seed", "policy", "temperature", "batch_size", "loss"],
)
def test_rows_of_another_job_are_ignored(
    place: SamplePlace,
    finished: AttemptDir,
    change: Callable[[SamplePlace], dict[str, object]],
) -> None:
    changed = change(place)
    later = place.attempt("later", earlier=[finished], **changed)  # type: ignore[arg-type]
    assert run_here(later).summary.num_reused == 0
    alone = place.attempt("alone", **changed)  # type: ignore[arg-type]
    run_here(alone)
    assert later.completions.read_bytes() == alone.completions.read_bytes()


def test_rows_of_a_finished_attempt_are_made_anew(place: SamplePlace) -> None:
    """It was rejected, for another policy had sampled it."""
    rejected = place.attempt("rejected")
    result = run_here(rejected)
    write_done(rejected.path, result.outputs, result.summary.as_json())
    later = place.attempt("later", earlier=[rejected])
    assert run_here(later).summary.num_reused == 0


@pytest.mark.parametrize(
    ("vllm", "is_similar"),
    [
        ({}, True),
        ({"replicas": 2}, True),
        ({"tensor_parallel_size": 2}, True),
        ({"gpu_memory_utilization": 0.5}, True),
        ({"arguments": {"max_model_len": 64}}, False),
        ({"arguments": {"quantization": "fp8"}}, False),
    ],
)
def test_rows_depend_on_what_vllm_computes_not_on_where(
    place: SamplePlace, vllm: dict[str, Any], is_similar: bool
) -> None:
    sampler = EngineChoice("vllm", "0.32.0", "asked for")
    earlier = place.attempt("earlier", engine="vllm")
    earlier.sampler.write_bytes(msgspec.json.encode(sampler))
    later = place.attempt("later", earlier=[earlier], engine="vllm", vllm=vllm)
    assert similar_attempts(open_attempt(later.path), sampler) == [earlier] * is_similar


def test_groups_in_another_order_are_ignored(place: SamplePlace, finished: AttemptDir) -> None:
    lines = finished.completions.read_bytes().splitlines(keepends=True)
    finished.completions.write_bytes(b"".join(reversed(lines)))
    later = place.attempt("later", earlier=[finished])
    assert run_here(later).summary.num_reused == 0


def test_rows_taken_over_are_not_generated_again(place: SamplePlace, finished: AttemptDir) -> None:
    content = finished.completions.read_bytes()
    assert MARK in content
    finished.completions.write_bytes(content.replace(MARK, b'"columns":{"kept":true,"row":'))
    later = place.attempt("later", earlier=[finished])
    run_here(later)
    assert all(group.columns["kept"] for group in groups_of(later))


@pytest.mark.parametrize("lost", ["job.json", "completions.jsonl"])
def test_an_earlier_attempt_without_its_files_is_no_obstacle(
    place: SamplePlace, finished: AttemptDir, lost: str
) -> None:
    (finished.path / lost).unlink()
    later = place.attempt("later", earlier=[finished])
    assert run_here(later).summary.num_reused == 0
