"""`make_job`: what a stage gets, for every stage and every past of the run."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from halos_backend.config.schema import RunSettings
from halos_backend.errors import CorruptFileError
from halos_backend.events import RunEvent, Stage
from halos_backend.store.job import (
    Job,
    LabelInputs,
    SampleInputs,
    TrainInputs,
    read_job,
    write_job,
)
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import fold
from halos_backend.supervisor.jobs import make_job
from halos_backend.supervisor.plan import StartStage

from tests.support.journals import (
    created,
    finished,
    round_started,
    settings,
    started,
    supervised,
    whole_round,
)

RUN = RunDir(Path("/runs/a-run"))
ATTEMPT = "/runs/a-run/rounds/{round:04d}/{stage}/attempt_{attempt}/{name}"


def path(round: int, stage: Stage, name: str, attempt: int = 1) -> str:
    return ATTEMPT.format(round=round, stage=stage, attempt=attempt, name=name)


def job(
    stage: Stage,
    made: RunSettings,
    *before: RunEvent,
    round: int = 1,
    attempt: int = 1,
    sample_attempt: int = 1,
) -> Job:
    """The stage's job in a round whose earlier stages are finished."""
    events = [created(made), supervised(), *before, round_started(round, made)]
    for earlier in ("sample", "label"):
        number = sample_attempt if earlier == "sample" else 1
        events += [started(round, earlier, number), finished(round, earlier, number)]
    return make_job(StartStage(round, stage, attempt), fold(events), made, RUN)


def train_inputs(made: RunSettings, *before: RunEvent, round: int = 1) -> TrainInputs:
    inputs = job("train", made, *before, round=round).inputs
    assert isinstance(inputs, TrainInputs)
    return inputs


def test_the_first_round_samples_from_the_initial_policy() -> None:
    assert job("sample", settings()).inputs == SampleInputs(
        policy="/models/policy",
        policy_version=0,
        prompts="/runs/a-run/prompts.jsonl",
        cursor=0,
        num_prompts=4,
        base="/models/policy",
    )


def test_a_later_round_samples_from_the_checkpoint_before_it() -> None:
    made = settings()

    inputs = job("sample", made, *whole_round(1, made), round=2).inputs

    assert isinstance(inputs, SampleInputs)
    assert (inputs.policy_version, inputs.cursor) == (1, 4)
    assert inputs.policy == path(1, "train", "checkpoint")


def test_adapters_of_the_policy_are_handed_over_to_the_sampler() -> None:
    plain, lora = settings(), with_lora(settings())
    before = [*whole_round(1, lora), *whole_round(2, lora, trained=False)]

    inputs = job("sample", plain, *before, round=3).inputs

    assert isinstance(inputs, SampleInputs)
    assert inputs.policy == path(1, "train", "checkpoint")
    assert inputs.base == "/models/policy"
    assert inputs.adapter == path(1, "train", "trainer_state/adapter")
    first = job("sample", lora).inputs
    assert isinstance(first, SampleInputs)
    assert (first.base, first.adapter) == ("/models/policy", None)
    later = job("sample", lora, *whole_round(1, plain), round=2).inputs
    assert isinstance(later, SampleInputs)
    assert later.adapter is None


def with_lora(made: RunSettings) -> RunSettings:
    table = made.model_dump(mode="json")
    table["train"]["lora"] = {}
    return RunSettings.model_validate(table)


def test_after_an_untrained_round_the_checkpoint_before_that_samples() -> None:
    made = settings()
    before = [*whole_round(1, made), *whole_round(2, made, trained=False)]

    inputs = job("sample", made, *before, round=3).inputs

    assert isinstance(inputs, SampleInputs)
    assert inputs.policy_version == 1
    assert inputs.policy == path(1, "train", "checkpoint")
    assert train_inputs(made, *before, round=3).model == path(1, "train", "checkpoint")


def test_a_label_stage_gets_the_finished_attempt_of_sample() -> None:
    assert job("label", settings(), sample_attempt=3).inputs == LabelInputs(
        completions=path(1, "sample", "completions.jsonl", attempt=3)
    )


def test_the_first_train_stage_starts_from_the_initial_policy() -> None:
    inputs = train_inputs(settings())

    assert inputs == TrainInputs(
        model="/models/policy",
        initial="/models/policy",
        reference="/models/policy",
        feedback=path(1, "label", "feedback.jsonl"),
        completions=path(1, "sample", "completions.jsonl"),
        trainer_state=None,
        progress_start=0.0,
        progress_end=pytest.approx(4 / 12),
        first_step=0,
    )


def test_a_later_train_stage_goes_on_from_the_round_before() -> None:
    made = settings()

    inputs = train_inputs(made, *whole_round(1, made), *whole_round(2, made), round=3)

    assert inputs.model == path(2, "train", "checkpoint")
    assert inputs.trainer_state == path(2, "train", "trainer_state")
    assert inputs.initial == inputs.reference == "/models/policy"
    assert inputs.first_step == 4, "two steps in each round before"
    assert inputs.progress_end == 1.0


def test_moments_go_on_unless_the_loss_is_another_than_that_of_the_last_trained_round() -> None:
    dpo, ipo = settings(), settings("ipo")
    reason = "the loss changed from dpo to ipo"

    assert train_inputs(ipo).reset_optimizer is None, "the first round has nothing to reset"
    assert train_inputs(dpo, *whole_round(1, dpo), round=2).reset_optimizer is None
    assert train_inputs(ipo, *whole_round(1, dpo), round=2).reset_optimizer == reason
    both = [*whole_round(1, dpo), *whole_round(2, ipo)]
    assert train_inputs(ipo, *both, round=3).reset_optimizer is None
    untrained = [*whole_round(1, dpo), *whole_round(2, ipo, trained=False)]
    assert train_inputs(ipo, *untrained, round=3).reset_optimizer == reason


def test_steps_and_progress_pass_over_untrained_rounds_rightly() -> None:
    made = settings()
    before = [*whole_round(1, made), *whole_round(2, made, trained=False)]

    inputs = train_inputs(made, *before, round=3)

    assert inputs.first_step == 2
    assert inputs.progress_start == pytest.approx(8 / 12), "prompts were taken all the same"


def test_progress_of_consecutive_rounds_has_no_gaps() -> None:
    made = settings(num_rounds=None, num_prompts=10)
    spans = []
    before: list[RunEvent] = []
    for round in (1, 2, 3):
        inputs = train_inputs(made, *before, round=round)
        spans.append((inputs.progress_start, inputs.progress_end))
        before += whole_round(round, made)

    assert spans[0][0] == 0.0
    assert spans[-1][1] == 1.0
    assert all(left[1] == right[0] for left, right in pairwise(spans))


@pytest.mark.parametrize(
    ("loss", "reference", "expected"),
    [
        ("dpo", "initial", "/models/policy"),
        ("dpo", "previous", path(1, "train", "checkpoint")),
        ("kto", "/models/other", "/models/other"),
        ("simpo", "initial", None),
        ("sft", "previous", None),
        ("bradley_terry", "initial", None),
    ],
)
def test_the_reference_is_what_the_settings_say(
    loss: str, reference: str, expected: str | None
) -> None:
    made = settings(loss, reference=reference)

    assert train_inputs(made, *whole_round(1, made), round=2).reference == expected


def test_bradley_terry_trains_its_reward_model_and_samples_from_the_initial_policy() -> None:
    made = settings("bradley_terry")
    before = list(whole_round(1, made))

    inputs = job("sample", made, *before, round=2).inputs

    assert isinstance(inputs, SampleInputs)
    assert (inputs.policy, inputs.policy_version) == ("/models/policy", 0)
    assert train_inputs(made, *before, round=2).model == path(1, "train", "checkpoint")


def test_a_later_attempt_knows_the_earlier_ones_newest_first() -> None:
    assert job("sample", settings(), attempt=3).earlier_attempts == (
        "/runs/a-run/rounds/0001/sample/attempt_2",
        "/runs/a-run/rounds/0001/sample/attempt_1",
    )
    assert job("sample", settings(), attempt=1).earlier_attempts == ()


@pytest.mark.parametrize(
    ("judge", "label_processes"),
    [
        ({"kind": "reward_model", "path": "/models/reward"}, 4),
        ({"kind": "function", "function": "judge.py:reward"}, 1),
    ],
)
def test_only_models_that_label_and_train_run_in_as_many_processes_as_are_set(
    judge: dict[str, str], label_processes: int
) -> None:
    table = settings().model_dump(mode="json")
    table["launch"]["num_processes"] = 4
    table["label"]["judge"] = judge
    made = RunSettings.model_validate(table)

    processes = {stage: job(stage, made).num_processes for stage in ("sample", "label", "train")}

    assert processes == {"sample": 1, "label": label_processes, "train": 4}


def test_a_job_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    made = job("train", settings())
    write_job(tmp_path / "job.json", made)

    assert read_job(tmp_path / "job.json") == made


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"run":"\xff"}', b'{"run":1}'])
def test_a_job_that_cannot_be_read_names_its_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "job.json").write_bytes(content)

    with pytest.raises(CorruptFileError, match=r"job\.json"):
        read_job(tmp_path / "job.json")


def test_a_label_stage_gets_the_rewards_of_rounds_whose_prompts_come_again() -> None:
    made = settings()
    before = [event for number in (1, 2, 3) for event in whole_round(number, made)]

    first_epoch = job("label", made, *before[: len(before) // 3], round=2).inputs
    second_epoch = job("label", made, *before, round=4).inputs

    assert isinstance(first_epoch, LabelInputs) and isinstance(second_epoch, LabelInputs)
    assert first_epoch.earlier_scores == {}
    assert second_epoch.earlier_scores == {
        "1": path(1, "label", "scores.jsonl"),
        "3": path(3, "label", "scores.jsonl"),
    }
