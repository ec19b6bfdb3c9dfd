"""Owns the course of the label stage: read completions, score them, make feedback, sum up."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from halos_backend import clock
from halos_backend.config import schema
from halos_backend.config.api_judge import ApiJudge
from halos_backend.errors import CorruptFileError, StageError
from halos_backend.events.summaries import LabelSummary
from halos_backend.records import Group, write_rows
from halos_backend.stages.label.completions import Completions
from halos_backend.stages.label.cut_off import (
    CutOff,
    as_training_sees,
    count_cut_off,
    with_penalties,
)
from halos_backend.stages.label.feedback import MadeFeedback, make_feedback, num_equal_groups
from halos_backend.stages.label.function import open_function
from halos_backend.stages.label.judge import (
    Bill,
    Judge,
    LabelRow,
    Outcome,
    Unscored,
    Weighed,
    label_rows,
)
from halos_backend.stages.label.judge_cache import JudgeCache
from halos_backend.stages.label.ledger import KnownRewards, LedgerWriter, block_digest
from halos_backend.stages.label.statistics import RewardErrors, reward_errors, reward_statistics
from halos_backend.stages.ranks import check_world_size
from halos_backend.stages.runtime import Attempt, StageResult
from halos_backend.store.job import LabelInputs
from halos_backend.store.prompt_order import derived_seed

JudgeOf = Callable[[Sequence[LabelRow]], Judge]
"""Returns the judge of a block's rows, which for most is the same every time."""
Blocks = Iterator[list[Group]]
MAX_REASONS = 10
UNIT = "completions"


@dataclass(frozen=True)
class OpenJudge:
    """Is the judge of an attempt. `ahead` may begin with blocks before their turn, of which
    `num_done` completions are judged; `notes` are what a person should know in the end,
    `bill` what it took.
    """

    judge_of: JudgeOf
    ahead: Callable[[Blocks, Callable[[], None]], Blocks] = lambda blocks, _tell: blocks
    num_done: Callable[[], int] = lambda: 0
    notes: Callable[[], Iterator[str]] = lambda: iter(())
    bill: Callable[[], Bill | None] = lambda: None
    close: Callable[[], None] = lambda: None


def execute(attempt: Attempt, *, cache: JudgeCache | None = None) -> StageResult:
    """Scores every completion and writes `scores.jsonl` and `feedback.jsonl`.

    `cache` is for a process that stays: it has the reward model of the round before.
    """
    started = clock.monotonic()
    settings = attempt.settings.label
    check_world_size("label", attempt.job.num_processes)
    if not isinstance(settings.judge, schema.RewardModelJudge) and not attempt.is_main:
        return StageResult()  # a Python function, or an API, is called by rank 0 alone
    judges = cache or JudgeCache()
    try:
        groups, rewards, judge, bill = _score(attempt, judges)
    finally:
        if not attempt.stays:
            judges.close()
    if not attempt.is_main:
        return StageResult()
    _report_unscored(attempt, rewards)
    longest = attempt.settings.sample.max_new_tokens
    scored = with_penalties(scored_groups(groups, rewards), settings, max_new_tokens=longest)
    seen = as_training_sees(scored, settings)
    rounding = judge.rounding if judge else 0.0
    feedback = _feedback(attempt, seen, rounding)
    write_rows(attempt.directory.scores, scored)
    write_rows(attempt.directory.feedback, feedback.rows)
    summary = summarize(
        scored,
        feedback,
        rounding=rounding,
        num_feedback=len(feedback.rows) if _wants_feedback(attempt) else None,
        num_equal_groups=num_equal_groups(seen, rounding),
        errors=_reward_errors(attempt, scored),
        cut_off=count_cut_off(scored, settings, max_new_tokens=longest),
        engine=judge.engine if judge and judge.engine else None,
        elapsed_s=clock.monotonic() - started,
    )
    if bill is not None:
        summary = msgspec.structs.replace(summary, **asdict(bill))
    return StageResult((attempt.directory.scores, attempt.directory.feedback), summary)


def _feedback(attempt: Attempt, seen: Sequence[Group], rounding: float) -> MadeFeedback:
    """Makes feedback of the rewards that training sees; none of a closing round, which
    only scores.
    """
    if not _wants_feedback(attempt):
        return MadeFeedback((), 0)
    attempt.phase("making feedback")
    seed = derived_seed(attempt.job.seed, attempt.job.round, "feedback")
    feedback = make_feedback(seen, attempt.settings.label.feedback, seed=seed, rounding=rounding)
    _warn_of_poor_feedback(attempt, feedback)
    return feedback


def _wants_feedback(attempt: Attempt) -> bool:
    assert isinstance(attempt.job.inputs, LabelInputs)
    return attempt.job.inputs.wants_feedback


def _score(
    attempt: Attempt, cache: JudgeCache
) -> tuple[list[Group], list[Outcome], Judge | None, Bill | None]:
    """Returns all groups, a reward or reason per completion, the last judge that gave them and its
    bill, on every rank.

    Rank 0 writes them down as they come. Without completions there is no judge.

    Raises StageError for a completion that occurs twice.
    """
    source = Completions(attempt)
    opened = _open_judge(attempt, cache)
    attempt.phase("scoring")
    known = KnownRewards([earlier.rewards for earlier in attempt.earlier_attempts])
    groups: list[Group] = []
    rewards: list[Outcome] = []
    judge: Judge | None = None
    names: set[tuple[str, str]] = set()

    def tell(num_scored: int = 0) -> None:
        done = max(len(rewards) + num_scored, opened.num_done())
        attempt.progress(done, source.num_rows, UNIT)

    with contextlib.ExitStack() as stack:
        stack.callback(opened.close)
        path = attempt.directory.rewards
        ledger = stack.enter_context(LedgerWriter(path)) if attempt.is_main else None
        for block in opened.ahead(source.blocks(tell), tell):
            rows = label_rows(block)
            names |= {(row.prompt_id, row.completion_id) for row in rows}
            if len(names) < len(rewards) + len(rows):
                raise StageError(f"{source.path}: a completion_id occurs twice for one prompt")
            judge = opened.judge_of(rows)
            digest = block_digest(block, judge.identity)
            if ledger is not None:
                ledger.begin(digest)
            found: dict[int, Outcome] = {}
            for index, reward in judge.score(rows, known.of(digest, rows)):
                found[index] = reward
                if ledger is not None:
                    ledger.append(rows[index], reward)
                tell(len(found))
            groups.extend(block)
            rewards.extend(found[index] for index in range(len(rows)))
        for note in opened.notes():
            attempt.warn(note)
        return groups, rewards, judge, opened.bill()


def _open_judge(attempt: Attempt, cache: JudgeCache) -> OpenJudge:
    match attempt.settings.label.judge:
        case schema.FunctionJudge(function=function):
            attempt.phase("loading judge")
            function_judge = open_function(function, attempt.directory.log, cache)
            return OpenJudge(lambda _rows: function_judge)
        case ApiJudge() as judge:
            attempt.phase("asking the judge")
            # Here, because the client takes half a second that others need not wait.
            from halos_backend.stages.label.api.called_api import open_api

            api = open_api(attempt, judge)
            return OpenJudge(
                judge_of=lambda _rows: api,
                ahead=api.ahead,
                num_done=lambda: api.num_done,
                notes=api.notes,
                bill=api.bill,
                close=api.close,
            )
        case schema.RewardModelJudge() as judge:
            attempt.phase("loading reward model")
            # Here, because torch and transformers take seconds that a function judge need not wait.
            from halos_backend.stages.label.reward_model import load_reward_model
            from halos_backend.stages.ranks import join_ranks

            ranks = join_ranks("label", attempt.job.num_processes, attempt.settings.launch)
            if judge.engine == "vllm":
                from halos_backend.stages.label.vllm_parity import VllmOrTransformers

                return OpenJudge(VllmOrTransformers(attempt, judge, ranks, cache).judge_of)
            reward_model = load_reward_model(judge, ranks, cache)
            return OpenJudge(lambda _rows: reward_model)


def scored_groups(groups: Sequence[Group], rewards: Sequence[Outcome]) -> list[Group]:
    """Returns the groups with each completion's reward or reason; `rewards` are in the
    same order.
    """
    remaining = iter(rewards)
    return [
        msgspec.structs.replace(
            group,
            completions=tuple(
                _with_reward(completion, next(remaining)) for completion in group.completions
            ),
        )
        for group in groups
    ]


def _with_reward(completion: Any, reward: Outcome) -> Any:
    replace = msgspec.structs.replace
    match reward:
        case Unscored(reason=reason):
            return replace(completion, reward=None, unscored=reason)
        case Weighed(reward=mean, components=parts, beats=beats):
            return replace(completion, reward=mean, unscored=None, components=parts, beats=beats)
        case number:
            return replace(completion, reward=number, unscored=None)


def _report_unscored(attempt: Attempt, rewards: Sequence[Outcome]) -> None:
    """Warns once, with counts. Raises StageError when the judge failed on every completion."""
    unscored = [reward for reward in rewards if isinstance(reward, Unscored)]
    if not unscored:
        return
    reasons = reason_counts([reward.reason for reward in unscored])
    if len(unscored) == len(rewards) and all(reward.is_error for reward in unscored):
        reason, count = next(iter(reasons.items()))
        raise StageError(
            f"{_judge_name(attempt)} scored none of {len(rewards)} completions:"
            f" {reason} ({count} times). Mend it, then: halos-tui resume {attempt.job.run}"
        )
    told = ", ".join(f"{reason} ({count})" for reason, count in reasons.items())
    counts = f"{len(unscored)} of {len(rewards)} completions are unscored"
    attempt.warn(f"{_judge_name(attempt)}: {counts}: {told}")


def _judge_name(attempt: Attempt) -> str:
    match attempt.settings.label.judge:
        case schema.FunctionJudge(function=function):
            return f"label.judge.function = {function!r}"
        case schema.RewardModelJudge(path=path):
            return f"label.judge.path = {path!r}"
        case ApiJudge(model=model):
            return f"label.judge.model = {model!r}"


def _warn_of_poor_feedback(attempt: Attempt, feedback: MadeFeedback) -> None:
    is_dropping = attempt.settings.label.cut_off == "drop"
    if not feedback.rows:
        attempt.warn(
            f"no feedback is left: all {feedback.num_dropped} candidates were dropped, because"
            " rewards are equal, too close for the threshold, or missing"
            f"{', or completions were cut off' if is_dropping else ''}"
        )
    elif feedback.num_desirable in (0, len(feedback.rows)):
        word = "desirable" if feedback.num_desirable else "undesirable"
        attempt.warn(f"all {len(feedback.rows)} completions are {word} by label.feedback.threshold")


def _reward_errors(attempt: Attempt, groups: Sequence[Group]) -> RewardErrors:
    """Computes errors; without the rows of an earlier round a change from it is taken for that of
    other prompts.
    """
    assert isinstance(attempt.job.inputs, LabelInputs)
    rewards = [(group.prompt_id, _rewards(group)) for group in groups]
    try:
        return reward_errors(rewards, attempt.job.inputs.earlier_scores)
    except (CorruptFileError, OSError) as error:
        attempt.warn(f"the rewards are not compared prompt by prompt: {error}")
        return reward_errors(rewards, {})


def _rewards(group: Group) -> list[float]:
    return [row.reward for row in group.completions if row.reward is not None]


def reason_counts(reasons: Sequence[str]) -> dict[str, int]:
    """Returns reasons with their counts, most common first; beyond ten the rest share one entry."""
    counts = Counter(reasons).most_common()
    if len(counts) <= MAX_REASONS:
        return dict(counts)
    rest = sum(count for _, count in counts[MAX_REASONS - 1 :])
    return {**dict(counts[: MAX_REASONS - 1]), "other reasons": rest}


def summarize(
    groups: Sequence[Group],
    feedback: MadeFeedback,
    *,
    rounding: float,
    num_feedback: int | None,
    num_equal_groups: int,
    errors: RewardErrors,
    cut_off: CutOff,
    engine: str | None,
    elapsed_s: float,
) -> LabelSummary:
    """Sums the stage up; `num_feedback` is None where none is wanted."""
    completions = [completion for group in groups for completion in group.completions]
    scored = [completion for completion in completions if completion.reward is not None]
    reasons = [completion.unscored for completion in completions if completion.unscored is not None]
    rewards = [completion.reward for completion in scored if completion.reward is not None]
    lengths = [len(completion.token_ids) for completion in scored]
    found = reward_statistics(rewards, lengths, rounding=rounding)
    return LabelSummary(
        num_completions=len(completions),
        num_unscored=len(reasons),
        unscored_frac=len(reasons) / len(completions) if completions else None,
        unscored_reasons=reason_counts(reasons),
        reward_mean=found.mean,
        reward_std=found.std,
        reward_min=found.min,
        reward_max=found.max,
        reward_q05=found.q05,
        reward_q25=found.q25,
        reward_q50=found.q50,
        reward_q75=found.q75,
        reward_q95=found.q95,
        reward_histogram=found.histogram,
        reward_length_corr=found.length_corr,
        num_feedback=num_feedback,
        num_pairs_kept=len(feedback.rows),
        num_pairs_dropped=feedback.num_dropped,
        margin_mean=feedback.margin_mean,
        num_desirable=feedback.num_desirable,
        num_equal_groups=num_equal_groups,
        reward_stderr=errors.stderr,
        reward_change_stderrs=errors.change_stderrs,
        num_cut_off=cut_off.num,
        num_cut_off_dropped=cut_off.num_dropped,
        num_cut_off_penalized=cut_off.num_penalized,
        num_overlong=cut_off.num_overlong,
        reward_mean_penalized=cut_off.reward_mean,
        engine=engine,
        elapsed_s=elapsed_s,
    )
