"""Notes the files that a run depends on for its life, so that a change of one is seen later."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from halos_backend.config.schema import FunctionJudge, RunSettings
from halos_backend.store.input_files import InputFile, look_at
from halos_backend.store.run_dir import RunDir

BESIDE_WEIGHTS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "chat_template.jinja",
)
"""What else of a model's directory says what it is. Other files there are its owner's business."""


def note_inputs(run_dir: RunDir, settings: RunSettings, weights: Sequence[Path]) -> list[InputFile]:
    """The frozen prompts first, then the policy's files, its chat template, the judge's program."""
    return [look_at(what, path, run_dir) for what, path in _inputs(run_dir, settings, weights)]


def policy_digest(inputs: Sequence[InputFile]) -> str:
    """One digest of all of the policy's files."""
    lines = [f"{Path(i.path).name} {i.sha256}\n" for i in inputs if i.what == "policy.path"]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _inputs(
    run_dir: RunDir, settings: RunSettings, weights: Sequence[Path]
) -> Iterator[tuple[str, Path]]:
    yield "prompts.jsonl", run_dir.prompts
    folder = weights[0].parent
    beside = [folder / name for name in BESIDE_WEIGHTS]
    for path in (*weights, *(path for path in beside if path.is_file())):
        yield "policy.path", path
    if settings.policy.chat_template is not None:
        yield "policy.chat_template", Path(settings.policy.chat_template)
    if isinstance(settings.label.judge, FunctionJudge):
        yield "label.judge.function", Path(settings.label.judge.function.rpartition(":")[0])
