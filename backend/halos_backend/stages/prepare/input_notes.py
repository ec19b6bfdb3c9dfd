"""Notes the files that a run depends on for its life, so that a change of one is seen later."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from halos_backend.config.schema import FunctionJudge, RunSettings
from halos_backend.findings import InputFile
from halos_backend.store.input_files import look_at
from halos_backend.store.run_dir import RunDir

BESIDE_WEIGHTS = (
    "*config.json",
    "*.safetensors.index.json",
    "adapter_model.safetensors",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "*.jinja",
    "additional_chat_templates/*.jinja",
)
"""Lists what else of a model's directory says what it is.

These are configurations, those of adapters and processors too, the tokenizer, templates. Other
files there are its owner's business.
"""


def model_files(weights: Sequence[Path], *, has_code: bool) -> tuple[Path, ...]:
    """Returns the weights, and what lies beside them and decides what they compute.

    `has_code`: Python files that come with the model are run.
    """
    folder = weights[0].parent
    patterns = [*BESIDE_WEIGHTS, *(("**/*.py",) if has_code else ())]
    beside = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return (*weights, *sorted(beside - set(weights)))


def note_inputs(
    run_dir: RunDir,
    settings: RunSettings,
    *,
    policy: Sequence[Path],
    judge: Sequence[Path],
    reference: Sequence[Path],
) -> list[InputFile]:
    """Notes the frozen prompts first, then the files of models, the template and the judge."""
    inputs = _inputs(run_dir, settings, policy=policy, judge=judge, reference=reference)
    return [look_at(what, path, run_dir) for what, path in inputs]


def policy_digest(inputs: Sequence[InputFile]) -> str:
    """Returns one digest of all of the policy's files."""
    lines = [f"{Path(i.path).name} {i.sha256}\n" for i in inputs if i.what == "policy.path"]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _inputs(
    run_dir: RunDir,
    settings: RunSettings,
    *,
    policy: Sequence[Path],
    judge: Sequence[Path],
    reference: Sequence[Path],
) -> Iterator[tuple[str, Path]]:
    yield "prompts.jsonl", run_dir.prompts
    if run_dir.held_out.exists():
        yield "held_out.jsonl", run_dir.held_out
    for path in policy:
        yield "policy.path", path
    if settings.policy.chat_template is not None:
        yield "policy.chat_template", Path(settings.policy.chat_template)
    is_function = isinstance(settings.label.judge, FunctionJudge)
    for path in judge:
        yield "label.judge.function" if is_function else "label.judge.path", path
    for path in reference:
        yield "train.reference", path
