"""Owns the names of known evaluation sets: a policy must not train on what it is judged by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from halos_backend.config.schema import PromptsSettings


@dataclass(frozen=True)
class EvaluationSet:
    """`training_splits` may be trained on; a set without any is for evaluation only."""

    name: str
    marks: tuple[str, ...]
    training_splits: tuple[str, ...] = ()


KNOWN = (
    EvaluationSet("AlpacaEval", ("alpacaeval",)),
    EvaluationSet("MT-Bench", ("mtbench",)),
    EvaluationSet("Arena-Hard", ("arenahard",)),
    EvaluationSet("IFEval", ("ifeval",)),
    EvaluationSet("TruthfulQA", ("truthfulqa",)),
    EvaluationSet("HumanEval", ("humaneval",)),
    EvaluationSet("GPQA", ("gpqa",)),
    EvaluationSet("BIG-Bench Hard", ("bigbenchhard",)),
    EvaluationSet("MATH-500", ("math500",)),
    EvaluationSet("MMLU", ("mmlu",), ("auxiliary_train",)),
    EvaluationSet("GSM8K", ("gsm8k",), ("train",)),
    EvaluationSet("MATH", ("competitionmath", "hendrycksmath"), ("train",)),
    EvaluationSet("MBPP", ("mbpp",), ("train", "prompt")),
    EvaluationSet("HellaSwag", ("hellaswag",), ("train",)),
    EvaluationSet("WinoGrande", ("winogrande",), ("train", "train_xl", "train_l")),
    EvaluationSet("ARC", ("ai2arc", "arcchallenge", "arceasy"), ("train",)),
    EvaluationSet("UltraFeedback's test split", ("ultrafeedback",), ("train", "train_prefs")),
)

EVALUATION_WORDS = frozenset({"test", "eval", "evaluation", "val", "validation", "heldout", "dev"})


def find_evaluation_set(prompts: PromptsSettings) -> EvaluationSet | None:
    """The known evaluation set that these prompts are, by the name and split; None if none."""
    path = Path(prompts.path)
    place = "/".join((*path.parts[-2:], prompts.subset or ""))
    name = re.sub(r"[^a-z0-9]", "", place.lower())
    is_file = path.suffix != ""
    for known in KNOWN:
        if any(mark in name for mark in known.marks):
            words = set(re.split(r"[^a-z]+", path.stem.lower()))
            held_out = bool(words & EVALUATION_WORDS) if is_file else _is_held_out(prompts, known)
            if not known.training_splits or held_out:
                return known
    return None


def _is_held_out(prompts: PromptsSettings, known: EvaluationSet) -> bool:
    split = prompts.split.partition("[")[0]  # `train[:1000]` is part of the train split
    return split not in known.training_splits
