"""Words the table of a run's rounds as text cells, the same wherever it is drawn."""

from __future__ import annotations

import math

from halos_backend.events import STAGES, Stage
from halos_backend.events.summaries import LabelSummary, TrainSummary
from halos_backend.settings_json import Change
from halos_backend.store.round_state import RoundState
from halos_backend.store.standard_error import Reward, RewardChange, change_between, reward_of
from halos_backend.store.state import RunState

from halos_tui.formatting import ABSENT, count, duration, measured, number, plural, setting_changes

FINAL = "final policy"
REWARD_NOTE = "reward: of the policy before the round's training"
Figure = tuple[float, float | None]
"""A figure is a value and its standard error, where that is known."""
HEADER = ("round", "prompts", "reward", "change", "feedback", "loss", "KL", *STAGES)


def reward_changes(state: RunState) -> list[RewardChange | None]:
    """Returns for each round its mean reward less that of the last round before it that has one."""
    changes: list[RewardChange | None] = []
    last: Reward | None = None
    for round in state.rounds:
        now = reward_of(round)
        changes.append(reward_change(round, last))
        last = last if now is None else now
    return changes


def reward_change(round: RoundState, last: Reward | None) -> RewardChange | None:
    """Returns a round's change since the last one that has a reward. Held-out prompts are
    others.
    """
    now = reward_of(round)
    if now is None or last is None or round.closing == "held_out":
        return None
    return change_between(last, now)


def place(state: RunState, number: int) -> str:
    """Writes `round 3`, or what the round after the last one is for."""
    closing = state.closing
    return FINAL if closing is not None and closing.round == number else f"round {number}"


def final_score(state: RunState) -> str:
    """Says what the result is worth, or why nobody knows; "" where it is not scored."""
    closing = state.closing
    if closing is None or (closing.finished_t is None and reward_of(closing) is None):
        return ""
    reward = reward_of(closing)
    if reward is None:
        return f"the {FINAL} has no score: {closing.unscored or 'no completion could be scored'}"
    noun = "held-out prompt" if closing.closing == "held_out" else "prompt"
    first = next(filter(None, map(reward_of, state.rounds[: state.num_rounds])), None)
    began = "" if first is None else f"; round {first.round} began at {describe_reward(first)}"
    return (
        f"{FINAL}: reward {describe_reward(reward)} on {plural(closing.num_prompts, noun)}{began}"
    )


def describe_reward(reward: Reward) -> str:
    """Writes a mean with its standard error, where that is known: 0.38 ±0.16."""
    return measured(reward.mean, reward.stderr)


def last_reward(state: RunState) -> float | None:
    """Returns the mean reward of the newest round that has one."""
    newest = next(filter(None, map(reward_of, reversed(state.rounds))), None)
    return None if newest is None else newest.mean


def describe_reward_change(change: RewardChange | None) -> str:
    """Writes a cell: +0.03 ±0.02."""
    return ABSENT if change is None else measured(change.value, change.stderr, is_signed=True)


def loss_kind(state: RunState) -> str:
    """Returns the loss of the newest round."""
    settings = state.settings_of(max(1, state.num_rounds))
    return str(settings.get("train", {}).get("loss", {}).get("kind", ""))


def boundary(state: RunState) -> str:
    """Says where a run that pauses or aborts will stop; "" for one that does not, or does so
    now.
    """
    match state.status:
        case "pausing":
            where = state.pause_at
        case "aborting" if state.abort_when != "now":
            where = state.abort_when
        case _:
            return ""
    if not state.rounds or state.rounds[-1].finished_t is not None:
        return f"before round {state.num_rounds + 1}"
    round = state.rounds[-1]
    if round.closing is not None:
        return f"when the {FINAL} is scored"
    if where == "round":
        return f"at the end of round {round.round}"
    if round.active is None:
        return f"before the next stage of round {round.round}"
    return f"when {round.active.stage} of round {round.round} is done"


def pending_changes(state: RunState) -> list[Change]:
    """Returns the changes of settings that wait for a round, the next one first."""
    waiting = [change for change in state.changes if change.from_round > state.num_rounds]
    return sorted(waiting, key=lambda change: change.from_round)


def describe_change(change: Change) -> str:
    return f"from round {change.from_round}: {setting_changes(change.changes)}"


def reward_change_in_words(change: RewardChange) -> str:
    """Writes +0.03 ±0.02, within noise."""
    noise = ", within noise" if change.significance == "within noise" else ""
    return describe_reward_change(change) + noise


def prompts_taken(cursor: int, num_prompts: int) -> str:
    """Writes 512 of 2,000 prompts, and of which epoch after the first."""
    epoch = max(0, cursor - 1) // num_prompts if num_prompts else 0
    of = f"{count(cursor - epoch * num_prompts)} of {count(num_prompts)} prompts"
    return f"{of}, epoch {epoch + 1}" if epoch else of


def cells(round: RoundState, change: RewardChange | None) -> list[str]:
    """Returns one row, in the order of HEADER."""
    train, reward = round.train_summary, reward_of(round)
    return [
        "final" if round.closing else str(round.round),
        count(round.num_prompts),
        number(None if reward is None else reward.mean),
        describe_reward_change(change),
        count(round.label_summary.num_feedback),
        _loss_cell(round, train),
        kl_initial(train),
        *[_stage_cell(round, stage) for stage in STAGES],
    ]


def figures(round: RoundState, change: RewardChange | None) -> tuple[Figure | None, ...]:
    """Returns the same row as numbers with their standard errors, None where it has none."""
    train, reward = round.train_summary, reward_of(round)
    found: dict[str, Figure | None] = {
        "reward": None if reward is None else (reward.mean, reward.stderr),
        "change": None if change is None else (change.value, change.stderr),
        "loss": None if train.loss_last is None else (train.loss_last, None),
        "KL": None if train.kl_initial is None else (train.kl_initial, train.kl_initial_stderr),
    }
    if round.closing is not None or round.untrained:
        found["loss"] = None
    return tuple(found.get(name) for name in HEADER)


def is_share(label: LabelSummary) -> bool:
    """Says whether all rewards are 0 or 1: only then their variance is mean x (1 - mean)."""
    mean, std = label.reward_mean, label.reward_std
    if mean is None or std is None or {label.reward_min, label.reward_max} - {0.0, 1.0}:
        return False
    count = (label.num_completions or 0) - (label.num_unscored or 0)
    variance = mean * (1 - mean)
    of_a_sample = variance * count / (count - 1) if count > 1 else variance
    return any(
        math.isclose(std**2, one, rel_tol=1e-4, abs_tol=1e-9) for one in (variance, of_a_sample)
    )


def kl_initial(train: TrainSummary) -> str:
    """Writes the KL to the initial policy, with its standard error where it has one: 2.70 ±0.11."""
    if train.kl_initial is None:
        return ABSENT
    return measured(train.kl_initial, train.kl_initial_stderr or None)


def _loss_cell(round: RoundState, train: TrainSummary) -> str:
    if round.closing is not None:
        return "unscored" if round.unscored else ABSENT
    return "untrained" if round.untrained else number(train.loss_last)


def about_cut_off(label: LabelSummary) -> str:
    """Says what became of completions that were cut off; "" where nothing did."""
    if label.num_cut_off_dropped:
        return f"{count(label.num_cut_off_dropped)} cut off and dropped"
    if label.num_cut_off_penalized:
        return f"{count(label.num_cut_off_penalized)} cut off and penalized"
    return ""


def _stage_cell(round: RoundState, stage: Stage) -> str:
    found = round.stages.get(stage)
    if found is None:
        return ABSENT
    match found.outcome:
        case "finished":
            return duration(found.elapsed_s)
        case "running":
            return "..."
        case outcome:
            return outcome
