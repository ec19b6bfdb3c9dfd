"""What may be deleted: never the newest, the best, or what a next stage reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from halos_backend.config.schema import RunSettings
from halos_backend.events import CheckpointPruned, RunEvent
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState, fold
from halos_backend.supervisor.jobs import make_job
from halos_backend.supervisor.plan import StartStage, best_checkpoint_round, prunable

from tests.support.journals import (
    checkpoint_path,
    created,
    round_started,
    settings,
    supervised,
    whole_round,
)


def run_of(
    rewards: list[float | None], *, untrained: tuple[int, ...] = (), **loop: Any
) -> tuple[RunState, RunSettings]:
    """A run with a finished round for each mean reward."""
    made = settings(num_rounds=None, **loop)
    events: list[RunEvent] = [created(made, num_prompts=1000), supervised()]
    for round, reward in enumerate(rewards, start=1):
        events += whole_round(round, made, reward_mean=reward, trained=round not in untrained)
    return fold(events), made


def kept(state: RunState, made: RunSettings) -> tuple[list[int], list[int]]:
    """Rounds whose checkpoint, and rounds whose trainer state, would stay."""
    gone = {what.path for what in prunable(state, made.loop)} | set(state.pruned)
    trained = [round.round for round in state.rounds if round.checkpoint]
    return (
        [round for round in trained if checkpoint_path(round) not in gone],
        [
            round
            for round in trained
            if checkpoint_path(round).replace("checkpoint", "trainer_state") not in gone
        ],
    )


def prune(state: RunState, made: RunSettings) -> RunState:
    return fold(
        [
            CheckpointPruned(t=1.0, round=what.round, path=what.path, freed_bytes=1)
            for what in prunable(state, made.loop)
        ],
        state,
    )


def test_the_newest_checkpoints_stay() -> None:
    state, made = run_of([None] * 5, keep_checkpoints=2)

    assert kept(state, made) == ([4, 5], [5])


def test_the_best_checkpoint_is_judged_by_the_rewards_of_the_round_after_it() -> None:
    # round 3's completions earn most, and they were sampled from round 2's checkpoint
    state, made = run_of([0.9, 0.2, 0.8, 0.3, 0.4], keep_checkpoints=1)

    assert best_checkpoint_round(state) == 2
    assert kept(state, made) == ([2, 5], [5])


def test_without_keep_best_only_the_newest_stay() -> None:
    state, made = run_of([0.9, 0.2, 0.8, 0.3, 0.4], keep_checkpoints=1, keep_best=False)

    assert kept(state, made) == ([5], [5])


def test_the_initial_policys_reward_is_no_checkpoints() -> None:
    state, _ = run_of([0.9])

    assert best_checkpoint_round(state) is None


def test_an_untrained_round_speaks_for_the_checkpoint_before_it() -> None:
    # round 3 sampled from round 1's checkpoint too, because round 2 was not trained
    state, made = run_of([0.1, 0.2, 0.8, 0.3], untrained=(2,), keep_checkpoints=1)

    assert best_checkpoint_round(state) == 1
    assert kept(state, made) == ([1, 4], [4])


def test_trailing_untrained_rounds_keep_the_last_trainer_state() -> None:
    state, made = run_of([None] * 4, untrained=(3, 4), keep_checkpoints=1)

    assert kept(state, made) == ([2], [2])


def test_of_two_equal_checkpoints_the_earlier_stays() -> None:
    state, _ = run_of([0.1, 0.5, 0.5, 0.2])

    assert best_checkpoint_round(state) == 1


def test_rounds_in_which_nothing_was_scored_are_never_best() -> None:
    state, _ = run_of([0.1, None, 0.2, None])

    assert best_checkpoint_round(state) == 2


def test_what_was_pruned_is_not_named_again() -> None:
    state, made = run_of([0.1, 0.2, 0.3, 0.2, 0.1], keep_checkpoints=2)

    after = prune(state, made)

    assert len(after.pruned) > 0
    assert prunable(after, made.loop) == ()
    assert [round for round, _ in after.checkpoints] == [2, 4, 5]


@pytest.mark.parametrize("reference", ["initial", "previous"])
@pytest.mark.parametrize("keep", [1, 2])
def test_no_job_of_the_next_round_names_what_was_pruned(reference: str, keep: int) -> None:
    rewards: list[float | None] = [0.1, 0.5, 0.3, 0.2, 0.4, 0.1]
    for rounds in range(1, len(rewards) + 1):
        state, made = run_of(rewards[:rounds], keep_checkpoints=keep)
        made = made.model_copy(
            update={"train": made.train.model_copy(update={"reference": reference})}
        )
        state = prune(state, made)
        next_round = list(whole_round(rounds + 1, made))
        state = fold([round_started(rounds + 1, made), *next_round[1:5]], state)
        run_dir = RunDir(Path("/runs/a-run"))
        for stage in ("sample", "label", "train"):
            job = make_job(StartStage(rounds + 1, stage, 1), state, made, run_dir)
            assert not [path for path in state.pruned if path in repr(job)]
