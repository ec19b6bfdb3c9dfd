"""Which rounds can be forked, with which settings, and what a forked run's stages get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from halos_backend.client.fork import (
    Origin,
    find_origin,
    first_cursor,
    fork_settings,
    has_same_prompts,
    has_trainer_state,
)
from halos_backend.config.schema import RunSettings
from halos_backend.errors import SettingsError, UsageError
from halos_backend.events import (
    CheckpointPruned,
    ForkOrigin,
    RoundStarted,
    RunEvent,
    SettingsChanged,
)
from halos_backend.store.job import SampleInputs, TrainInputs
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import fold
from halos_backend.supervisor.jobs import make_job
from halos_backend.supervisor.plan import Prunable, StartRound, StartStage, plan, prunable
from msgspec.structs import replace

from tests.support.journals import (
    checkpoint_path,
    created,
    finished,
    round_finished,
    settings,
    started,
    supervised,
    whole_round,
)


def journal(*, loss: str = "dpo") -> list[RunEvent]:
    """Three whole rounds, the first pruned, the second untrained, and a fourth that goes on."""
    made = settings(loss)
    return [
        created(made),
        supervised(),
        *whole_round(1, made),
        *whole_round(2, made, trained=False),
        *whole_round(3, made),
        CheckpointPruned(t=7.0, round=1, path=checkpoint_path(1), freed_bytes=1),
        RoundStarted(
            t=8.0, round=4, cursor=12, num_prompts=4, settings=made.model_dump(mode="json")
        ),
    ]


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path / "a-run")
    for round in (1, 3):
        made.attempt(round, "train", 1).checkpoint.mkdir(parents=True)
        made.attempt(round, "train", 1).trainer_state.mkdir()
    return made


def origin(run_dir: RunDir, *more: RunEvent, round: int = 3) -> Origin:
    return find_origin(run_dir, fold([*journal(), *more]), round)


@pytest.mark.parametrize(
    ("round", "reason"),
    [
        (0, "has no round 0"),
        (5, "has no round 5"),
        (4, "round 4 of a-run is not finished"),
        (2, r"left the policy as it was \(no feedback is left\)"),
        (1, r"checkpoint of round 1 .* deleted .*loop.keep_checkpoints"),
    ],
)
def test_a_round_that_cannot_be_forked_is_refused_with_those_that_can(
    run_dir: RunDir, round: int, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        origin(run_dir, round=round)
    assert str(caught.value).endswith("; can be forked: 3")


def test_a_checkpoint_that_is_gone_is_refused(run_dir: RunDir) -> None:
    run_dir.attempt(3, "train", 1).checkpoint.rmdir()
    with pytest.raises(UsageError, match=r"checkpoint is gone"):
        origin(run_dir)


def test_a_run_that_trains_a_reward_model_has_no_policy_to_fork(run_dir: RunDir) -> None:
    with pytest.raises(UsageError, match="trains a reward model"):
        find_origin(run_dir, fold(journal(loss="bradley_terry")), 3)


def test_a_fork_has_the_settings_of_the_round_after(run_dir: RunDir) -> None:
    later = SettingsChanged(t=9.0, request_id="r", from_round=4, changes={"train.lr": (5e-6, 1e-6)})
    assert origin(run_dir).settings["train"]["lr"] == 5e-6
    assert origin(run_dir, later).settings["train"]["lr"] == 1e-6
    assert origin(run_dir, later).round.settings["train"]["lr"] == 5e-6


def test_settings_fixed_for_a_runs_life_may_differ_in_a_fork(tmp_path: Path) -> None:
    plain = settings().model_dump(mode="json")
    made = fork_settings(
        plain, ["loop.seed=9", "train.loss.kind=simpo", "prompts.path=x.jsonl"], directory=tmp_path
    )
    assert made.loop.seed == 9
    assert made.train.loss.kind == "simpo"
    assert getattr(made.train.loss, "beta", None) != 0.1, "dpo's default is none of simpo's"
    assert Path(made.prompts.path).name == "x.jsonl"
    assert made.launch.num_threads == 1


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("policy.path=/models/other", "a fork begins with the checkpoint"),
        ("train.lrr=1", "train.lrr"),
        ("train.lr=fast", "train.lr"),
        ("label.feedback.kind=scalar", "cannot learn from scalar feedback"),
    ],
)
def test_wrong_settings_of_a_fork_are_refused_by_name(
    tmp_path: Path, override: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        fork_settings(settings().model_dump(mode="json"), [override], directory=tmp_path)


def changed(**tables: dict[str, Any]) -> RunSettings:
    plain = settings().model_dump(mode="json")
    for table, values in tables.items():
        plain[table] |= values
    return RunSettings.model_validate(plain)


def test_a_fork_goes_on_behind_the_prompts_that_were_taken(run_dir: RunDir) -> None:
    after_3 = origin(run_dir)
    assert has_same_prompts(after_3, changed(train={"lr": 1.0}))
    assert first_cursor(after_3, settings()) == 12
    assert first_cursor(after_3, changed(loop={"seed": 5})) == 0
    for other in ({"path": "/data/other.jsonl"}, {"max_tokens": 9}):
        assert not has_same_prompts(after_3, changed(prompts=other))
        assert first_cursor(after_3, changed(prompts=other)) == 0
    assert not has_same_prompts(after_3, changed(policy={"chat_template": "/t.jinja"}))


def test_the_trainer_state_comes_along_where_it_is_of_use(run_dir: RunDir) -> None:
    after_3 = origin(run_dir)
    assert has_trainer_state(after_3, settings())
    assert has_trainer_state(after_3, changed(train={"lr": 1.0}))
    assert not has_trainer_state(after_3, changed(train={"lora": {"r": 4}}))
    assert not has_trainer_state(after_3, changed(policy={"dtype": "float32"}))
    assert not has_trainer_state(after_3, settings("bradley_terry"))
    after_3.attempt.trainer_state.rmdir()
    assert not has_trainer_state(after_3, settings())


RUN = RunDir(Path("/runs/forked"))
INITIAL = "/runs/forked/initial/checkpoint"


def forked(made: RunSettings, *, train: dict[str, Any] | None) -> list[RunEvent]:
    first = replace(
        created(made, num_prompts=20),
        first_cursor=8,
        forked_from=ForkOrigin(run="a-run", path="/runs/a-run", round=2, train=train),
    )
    return [first, supervised()]


def round_events(round: int, made: RunSettings, *, trained: bool) -> list[RunEvent]:
    cursor = 4 + 4 * round
    begun = RoundStarted(
        t=3.0, round=round, cursor=cursor, num_prompts=4, settings=made.model_dump(mode="json")
    )
    ends: list[RunEvent] = [finished(round, "train"), round_finished(round)] if trained else []
    return [
        begun,
        *[event(round, stage) for stage in ("sample", "label") for event in (started, finished)],
        started(round, "train"),
        *ends,
    ]


def train_inputs(made: RunSettings, events: list[RunEvent], round: int = 1) -> TrainInputs:
    inputs = make_job(StartStage(round, "train", 2), fold(events), made, RUN).inputs
    assert isinstance(inputs, TrainInputs)
    return inputs


def test_a_forks_first_round_begins_behind_the_prompts_taken() -> None:
    made = settings()
    state = fold(forked(made, train=None))
    assert state.cursor == 8
    state = replace(state, status="running")
    assert plan(state, made, 0.0) == (StartRound(round=1, cursor=8, num_prompts=4),)


def test_a_forks_stages_begin_with_its_own_copy() -> None:
    made = settings()
    state = fold([*forked(made, train=None), *round_events(1, made, trained=False)])
    sample = make_job(StartStage(1, "sample", 2), state, made, RUN).inputs
    assert isinstance(sample, SampleInputs)
    assert (sample.policy, sample.policy_version, sample.cursor) == (INITIAL, 0, 8)


def test_the_initial_policy_of_a_fork_is_its_copy_in_later_rounds_too() -> None:
    made = settings()
    events = [
        *forked(made, train=made.train.model_dump(mode="json")),
        *round_events(1, made, trained=True),
        *round_events(2, made, trained=False),
    ]
    inputs = train_inputs(made, events, round=2)
    assert inputs.model == "/runs/forked/rounds/0001/train/attempt_1/checkpoint"
    assert (inputs.initial, inputs.reference) == (INITIAL, INITIAL)
    assert inputs.trainer_state == "/runs/forked/rounds/0001/train/attempt_1/trainer_state"


def test_moments_come_along_unless_the_loss_differs() -> None:
    made = settings()
    before = made.train.model_dump(mode="json")
    begun = round_events(1, made, trained=False)
    inputs = train_inputs(made, [*forked(made, train=before), *begun])
    assert (inputs.model, inputs.initial) == (INITIAL, INITIAL)
    assert inputs.trainer_state == "/runs/forked/initial/trainer_state"
    assert inputs.reset_optimizer is None

    assert train_inputs(made, [*forked(made, train=None), *begun]).trainer_state is None

    other = settings("ipo")
    begun = round_events(1, other, trained=False)
    inputs = train_inputs(other, [*forked(other, train=before), *begun])
    assert inputs.reset_optimizer == "the loss changed from dpo to ipo"


def test_adapters_set_before_the_first_round_begin_without_the_copied_state() -> None:
    made = changed(train={"lora": {"r": 4}})
    before = settings().train.model_dump(mode="json")
    events = [*forked(made, train=before), *round_events(1, made, trained=False)]
    assert train_inputs(made, events).trainer_state is None


def test_a_forks_schedule_spans_its_own_prompts() -> None:
    """Three rounds of four prompts: a third of the schedule each, whatever was taken before."""
    made = settings()
    events = [*forked(made, train=None), *round_events(1, made, trained=False)]
    inputs = train_inputs(made, events)
    assert (inputs.progress_start, inputs.progress_end) == (0.0, 4 / 12)
    events = [
        *forked(made, train=None),
        *round_events(1, made, trained=True),
        *round_events(2, made, trained=False),
    ]
    inputs = train_inputs(made, events, round=2)
    assert (inputs.progress_start, inputs.progress_end) == (4 / 12, 8 / 12)


def test_the_copied_trainer_state_goes_once_a_round_is_trained() -> None:
    made = settings()
    train = made.train.model_dump(mode="json")
    copied = Prunable(0, "initial/trainer_state")
    state = fold([*forked(made, train=train), *round_events(1, made, trained=False)])
    assert copied not in prunable(state, made.loop)
    events = [*forked(made, train=train), *round_events(1, made, trained=True)]
    assert prunable(fold(events), made.loop) == (copied,)
    events.append(CheckpointPruned(t=9.0, round=0, path=copied.path, freed_bytes=1))
    assert prunable(fold(events), made.loop) == ()
    assert prunable(fold([*forked(made, train=None), *events[2:-1]]), made.loop) == ()
