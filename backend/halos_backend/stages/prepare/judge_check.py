"""Checks the judge without scoring: a function is imported, a model's files are looked at."""

from __future__ import annotations

from typing import NamedTuple

from halos_backend.config.model_files import model_size
from halos_backend.config.schema import FunctionJudge, Judge, RewardModelJudge
from halos_backend.errors import UsageError
from halos_backend.stages.label.conversations import load_judge_tokenizer
from halos_backend.stages.label.function import load_function
from halos_backend.stages.models import load_config
from halos_backend.stages.prepare.policy_check import weight_files


class CheckedJudge(NamedTuple):
    """What gives the rewards, in words; a function has no parameters."""

    about: str
    num_parameters: int


def check_judge(judge: Judge) -> CheckedJudge:
    """Raises UsageError for a judge that could not score."""
    match judge:
        case FunctionJudge(function=function):
            load_function(function)
            return CheckedJudge(f"the function {function}", 0)
        case RewardModelJudge():
            return _check_reward_model(judge)


def _check_reward_model(judge: RewardModelJudge) -> CheckedJudge:
    config = load_config(judge.path, trust_remote_code=judge.trust_remote_code)
    kinds = config.architectures or []
    if not any("SequenceClassification" in kind or "RewardModel" in kind for kind in kinds):
        raise UsageError(
            f"label.judge.path = {judge.path!r} is no sequence classifier"
            f" ({', '.join(kinds) or 'no architecture named'}); name a reward model saved as"
            " AutoModelForSequenceClassification"
        )
    if config.num_labels > 2 and not judge.trust_remote_code:
        raise UsageError(
            f"label.judge.path = {judge.path!r} has {config.num_labels} labels; a reward model has"
            " one or two (ArmoRM's own `score` needs label.judge.trust_remote_code = true)"
        )
    load_judge_tokenizer(judge.path, trust_remote_code=judge.trust_remote_code)
    shards = weight_files(judge.path, setting="label.judge.path")
    about = f"the reward model {judge.path}: {', '.join(kinds)}"
    return CheckedJudge(about, model_size(shards, "float32").num_parameters)
