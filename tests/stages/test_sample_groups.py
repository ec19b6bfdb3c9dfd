"""Groups that are finished in any order: the file's order, what waits, what a later attempt has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from halos_backend.config.schema import SampleSettings
from halos_backend.interpreters.engine_choice import EngineChoice
from halos_backend.records import Completion, Group, Prompt, read_rows
from halos_backend.stages.sample.batches import Batch, Row
from halos_backend.stages.sample.group_writer import GroupWriter
from halos_backend.stages.sample.resume import finished_groups, plan_round
from halos_backend.store.run_dir import AttemptDir

from tests.support.sample_fixtures import SamplePlace

VLLM = EngineChoice("vllm", "0.32.0", "")
MESSAGES = ({"role": "user", "content": "x"},)
PROMPTS = [Prompt(f"p{i}", MESSAGES, (1,)) for i in range(5)]


def group(index: int) -> Group:
    completions = tuple(Completion(f"p{index}.{k}", "a", (5,), "length") for k in range(2))
    return Group(f"p{index}", MESSAGES, (1,), 0, completions)


def ids(path: Path) -> list[str]:
    return [found.prompt_id for found in read_rows(path, Group)] if path.exists() else []


@pytest.fixture
def attempt(tmp_path: Path) -> AttemptDir:
    return AttemptDir(tmp_path)


def test_groups_are_written_in_the_planned_order(attempt: AttemptDir) -> None:
    written: list[str] = []
    with GroupWriter(
        attempt, [2, 0, 1, 3], lambda found: written.append(found.prompt_id)
    ) as writer:
        for index in (0, 3, 2, 1):
            writer.add(index, group(index))
    assert ids(attempt.completions) == written == ["p2", "p0", "p1", "p3"]
    assert not attempt.early_groups.exists()


@pytest.mark.parametrize(
    ("finished", "in_file", "early"),
    [
        ([1], [], ["p1"]),
        ([1, 2], [], ["p1", "p2"]),
        ([1, 0], ["p0", "p1"], ["p1"]),
        ([0, 1], ["p0", "p1"], []),
        ([3, 0], ["p0"], ["p3"]),
    ],
)
def test_what_is_finished_is_on_disk_at_once(
    attempt: AttemptDir, finished: Sequence[int], in_file: list[str], early: list[str]
) -> None:
    with GroupWriter(attempt, range(4), lambda _: None) as writer:
        for index in finished:
            writer.add(index, group(index))
        assert ids(attempt.completions) == in_file
        assert ids(attempt.early_groups) == early
        assert sorted(finished_groups([attempt], PROMPTS)) == sorted(finished)
    assert sorted(finished_groups([attempt], PROMPTS)) == sorted(finished)


def test_vllm_is_asked_for_all_that_no_attempt_finished(tmp_path: Path) -> None:
    place = SamplePlace(tmp_path)
    first, second = place.attempt("first"), place.attempt("second")
    for directory, finished in ((first, (1, 3)), (second, (0, 3))):
        with GroupWriter(directory, range(5), lambda _: None) as writer:
            for index in finished:
                writer.add(index, group(index))
    sample = place.settings({"group_size": 2}, {"kind": "dpo"})["sample"]
    plan = plan_round(VLLM, PROMPTS, _settings(sample), [first, second])
    assert sorted(plan.reused) == [0, 1, 3]
    assert plan.order == (0, 1, 2, 3, 4)
    rows = (Row(2, 0), Row(2, 1), Row(4, 0), Row(4, 1))
    assert plan.batches == (Batch(rows, (2, 4)),)


def test_nothing_is_asked_for_when_all_is_there(tmp_path: Path) -> None:
    place = SamplePlace(tmp_path)
    attempt = place.attempt("whole")
    with GroupWriter(attempt, range(5), lambda _: None) as writer:
        for index in range(5):
            writer.add(index, group(index))
    sample = place.settings({"group_size": 2}, {"kind": "dpo"})["sample"]
    assert plan_round(VLLM, PROMPTS, _settings(sample), [attempt]).batches == ()


def _settings(sample: dict[str, object]) -> SampleSettings:
    return SampleSettings.model_validate(sample)
