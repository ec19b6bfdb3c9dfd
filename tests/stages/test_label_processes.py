"""Two real processes (torchrun, gloo) label as one does, whatever the counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from halos_backend.store.manifest import read_done

from tests.support.label_fixtures import (
    failures,
    function_judge,
    label,
    make_attempt,
    ragged_groups,
    reward_model_judge,
    rewards_of,
    run_stage_process,
    save_classifier,
    scores,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("models") / "model")


@pytest.mark.parametrize("num_completions", [1, 7])
def test_two_processes_equal_one(tmp_path: Path, model: Path, num_completions: int) -> None:
    groups = ragged_groups(num_completions, 1)
    judge = reward_model_judge(model, batch_tokens=96)
    two = make_attempt(tmp_path / "two", groups, judge, num_processes=2)
    assert run_stage_process(two, num_processes=2) == 0
    one = make_attempt(tmp_path / "one", groups, judge)
    label(one)
    assert len(rewards_of(two)) == num_completions
    assert rewards_of(two) == pytest.approx(rewards_of(one), abs=1e-5)
    assert [row.prompt_id for row in scores(two)] == [row.prompt_id for row in scores(one)]
    assert read_done(two) is not None


def test_two_processes_call_a_function_once_per_completion(tmp_path: Path) -> None:
    judge = tmp_path / "judge.py"
    judge.write_text(
        "import pathlib\n"
        "def judge(prompt, completion, row):\n"
        "    with (pathlib.Path(__file__).parent / 'calls').open('a') as calls:\n"
        "        calls.write('.')\n"
        "    return len(completion)\n"
    )
    groups = ragged_groups(7, 1)
    path = make_attempt(tmp_path / "two", groups, function_judge(judge), num_processes=2)
    assert run_stage_process(path, num_processes=2) == 0
    assert rewards_of(path) == [float(len(row.completions[0].text)) for row in groups]
    assert (tmp_path / "calls").stat().st_size == 7


def test_another_number_of_processes_than_the_job_says_is_refused(
    tmp_path: Path, model: Path
) -> None:
    path = make_attempt(tmp_path / "one", ragged_groups(1, 2), reward_model_judge(model))
    assert run_stage_process(path, num_processes=2) == 1
    (reason,) = failures(path)
    assert reason.startswith("label was to run as 1 processes (launch.num_processes) and runs as 2")
