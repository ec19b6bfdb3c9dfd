"""Words the table of a run's rounds as text cells, the same wherever it is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from halos_backend.events import STAGES, Stage
from halos_backend.events.summaries import LabelSummary, TrainSummary
from halos_backend.settings_json import Change
from halos_backend.store.requests import At
from halos_backend.store.round_state import RoundState
from halos_backend.store.standard_error import Reward, RewardChange, change_between, reward_of
from halos_backend.store.state import RunState

from halos_tui.formatting import (
    ABSENT,
    FigureLook,
    count,
    duration,
    look_of,
    measured,
    number,
    percent,
    plural,
    setting_changes,
)

FINAL = "final policy"
REWARD_NOTE = "reward: of the policy before the round's training"
Figure = tuple[float, float | None]
"""A figure is a value and its standard error, where that is known."""
HEADER = ("round", "prompts", "reward", "change", "feedback", "loss", "KL", *STAGES)
SHOWN_WITH_ERROR = ("change", "KL")
NUM_ROUNDS_THAT_COUNT = 100
"""So many newest rounds decide how exact the figures of the table are."""
MOST_PLACES = 3
"""A column has room for so many places."""


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
    """Writes a mean with its standard error, where that is known: 0.38 ±0.16, 38% ±5%."""
    return measured(reward.mean, reward.stderr, is_share=reward.is_share)


def last_reward(state: RunState) -> Reward | None:
    """Returns the reward of the newest round that has one."""
    return next(filter(None, map(reward_of, reversed(state.rounds))), None)


def describe_reward_change(change: RewardChange | None, *, usual: int | None = None) -> str:
    """Writes +0.03 ±0.02, +3% ±2%; among other runs with the `usual_places` of their rewards."""
    if change is None:
        return ABSENT
    look = _look_of_one(change.value, change.stderr, change.is_share)
    look = replace(_among(look, usual), is_signed=True)
    return look.write(change.value, change.stderr)


def usual_places(rewards: Iterable[Reward]) -> int:
    """Returns how exact most of the rewards of several runs are."""
    looks = (_look_of_one(one.mean, one.stderr, one.is_share) for one in rewards)
    places = sorted(look.places for look in looks if look.places is not None)
    return places[len(places) // 2] if places else 0


def reward_among(reward: Reward | None, usual: int | None) -> str:
    """Writes a mean below those of other runs: with their places, unless it has quite others."""
    if reward is None:
        return ABSENT
    look = _look_of_one(reward.mean, reward.stderr, reward.is_share)
    return replace(_among(look, usual), has_error=False).write(reward.mean)


@lru_cache(maxsize=4096)
def _look_of_one(value: float, stderr: float | None, is_share: bool) -> FigureLook:
    return look_of([value], [stderr], is_share=is_share)


def _among(look: FigureLook, usual: int | None) -> FigureLook:
    if usual is None or look.places is None or abs(look.places - usual) > 1:
        return look
    return replace(look, places=min(1, usual) if look.is_share else usual)


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
    return next_boundary(state, where)


def next_boundary(state: RunState, where: At | None) -> str:
    """Says where a run stops when it is asked to stop now, at the end of a stage or a round."""
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


@dataclass(frozen=True, slots=True, eq=False)
class RoundCells:
    """Holds a round's line of the table, in the order of HEADER. A column of `texts` is empty where
    `figures` has its number.

    `is_share` says that all its rewards are 0 or 1; None where it has none.
    """

    texts: tuple[str, ...]
    figures: tuple[Figure | None, ...]
    is_share: bool | None = None


def cells_of(round: RoundState, change: RewardChange | None) -> RoundCells:
    train, reward = round.train_summary, reward_of(round)
    found: dict[str, Figure | None] = {
        "reward": None if reward is None else (reward.mean, reward.stderr),
        "change": None if change is None else (change.value, change.stderr),
        "loss": None if train.loss_last is None else (train.loss_last, None),
        "KL": None if train.kl_initial is None else (train.kl_initial, train.kl_initial_stderr),
    }
    if round.closing is not None or round.untrained:
        found["loss"] = None
    texts: dict[str, str] = {
        "round": "final" if round.closing else str(round.round),
        "prompts": count(round.num_prompts),
        "feedback": count(round.label_summary.num_feedback),
        "loss": _instead_of_loss(round),
        **{stage: _stage_cell(round, stage) for stage in STAGES},
    }
    figures = tuple(found.get(name) for name in HEADER)
    return RoundCells(
        tuple(
            texts.get(name, ABSENT) if figure is None else ""
            for name, figure in zip(HEADER, figures, strict=True)
        ),
        figures,
        None if reward is None else reward.is_share,
    )


def looks_of(rows: Sequence[RoundCells]) -> tuple[FigureLook | None, ...]:
    """Says how the figures of each column look; None where a column has none."""
    rows = rows[-NUM_ROUNDS_THAT_COUNT:]
    is_share = {row.is_share for row in rows} - {None} == {True}
    return tuple(_look_of(name, rows, is_share=is_share) for name in HEADER)


def _look_of(name: str, rows: Sequence[RoundCells], *, is_share: bool) -> FigureLook | None:
    column = HEADER.index(name)
    found = [figure for row in rows if (figure := row.figures[column]) is not None]
    if not found:
        return None
    look = look_of(
        [value for value, _ in found],
        [error for _, error in found],
        is_share=is_share and name in ("reward", "change"),
        is_signed=name == "change",
        most=MOST_PLACES,
    )
    return replace(look, has_error=look.has_error and name in SHOWN_WITH_ERROR)


def text_of(row: RoundCells, column: int, looks: Sequence[FigureLook | None]) -> str:
    """Returns a cell; of one column all figures have their point at the same place from the right,
    as far as their standard errors are equally wide.
    """
    figure, look = row.figures[column], looks[column]
    if figure is None or look is None:
        return row.texts[column]
    return look.write(*figure)


def table(state: RunState) -> list[list[str]]:
    """Returns the rows of all rounds, whose figures are aligned to the right."""
    changes = reward_changes(state)
    rows = [cells_of(round, change) for round, change in zip(state.rounds, changes, strict=True)]
    looks = looks_of(rows)
    return [[text_of(row, column, looks) for column in range(len(HEADER))] for row in rows]


def kl_initial(train: TrainSummary) -> str:
    """Writes the KL to the initial policy, with its standard error where it has one: 2.70 ±0.11."""
    return measured(train.kl_initial, train.kl_initial_stderr)


def _instead_of_loss(round: RoundState) -> str:
    if round.closing is not None:
        return "unscored" if round.unscored else ABSENT
    return "untrained" if round.untrained else ABSENT


def about_cut_off(label: LabelSummary) -> str:
    """Says what became of completions that were cut off or nearly; "" where nothing did."""
    numbers = {
        "cut off and dropped": label.num_cut_off_dropped,
        "cut off and penalized": label.num_cut_off_penalized,
        "penalized for their length": label.num_overlong,
    }
    return ", ".join(f"{count(number)} {what}" for what, number in numbers.items() if number)


def about_judge(label: LabelSummary) -> str:
    """Says what a judge behind an API took; "" for any other."""
    if label.num_judge_answers is None:
        return ""
    tokens = (label.num_judge_prompt_tokens or 0) + (label.num_judge_answer_tokens or 0)
    text = f"judge: {plural(label.num_judge_answers, 'answer')}, {count(tokens)} tokens"
    if label.flip_frac is not None:
        text += f", {percent(label.flip_frac)} of the matches flip with the order"
    if label.judge_cost is None:
        return text
    return f"{text}, cost {number(label.judge_cost)} (run {number(label.judge_cost_so_far)})"


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
