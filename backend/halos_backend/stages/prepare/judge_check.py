"""Checks the judge without scoring: a function is imported, a model's files are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from halos_backend.config.model_files import model_size
from halos_backend.config.schema import FunctionJudge, RewardModelJudge, RunSettings
from halos_backend.errors import UsageError
from halos_backend.interpreters.programs import stage_environment
from halos_backend.stages.label.conversations import load_judge_tokenizer, tokenize_conversations
from halos_backend.stages.label.function import check_function
from halos_backend.stages.label.judge import LabelRow
from halos_backend.stages.label.reward_model import check_vocabulary, most_tokens
from halos_backend.stages.models import load_config, outline_classifier
from halos_backend.stages.prepare.input_notes import model_files
from halos_backend.stages.prepare.policy_check import weight_files
from halos_backend.store.run_dir import RunDir

PROBE = LabelRow("", "", ({"role": "user", "content": "a"},), "b")
"""A conversation by which one sees the special tokens that the chat template writes."""


@dataclass(frozen=True)
class CheckedJudge:
    """What gives the rewards, in words; a function has no parameters. `files` are those that it
    consists of.
    """

    about: str
    num_parameters: int
    files: tuple[Path, ...]


def check_judge(settings: RunSettings, run_dir: RunDir) -> CheckedJudge:
    """Raises UsageError for a judge that could not score."""
    match settings.label.judge:
        case FunctionJudge(function=function):
            python = settings.label.python
            environment = stage_environment(run_dir.path, settings.launch, python=python)
            files = check_function(function, environment, python=python)
            return CheckedJudge(f"the function {function}", 0, files)
        case RewardModelJudge() as judge:
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
    tokenizer = load_judge_tokenizer(judge.path, trust_remote_code=judge.trust_remote_code)
    shards = weight_files(judge.path, setting="label.judge.path")
    num_parameters = model_size(shards, "float32").num_parameters
    outline = outline_classifier(judge.path, trust_remote_code=judge.trust_remote_code)
    (ids,) = tokenize_conversations(tokenizer, [PROBE], max_tokens=most_tokens(judge, outline))
    if isinstance(ids, list):
        check_vocabulary([ids], outline.config, tokenizer, f"label.judge.path = {judge.path!r}")
    return CheckedJudge(
        f"the reward model {judge.path}: {', '.join(kinds)}",
        num_parameters,
        model_files(shards, has_code=judge.trust_remote_code),
    )
