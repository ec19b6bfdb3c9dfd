"""Owns what label's tests run on: tiny random classifiers, groups, attempt directories."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
from halos_backend.events import AttemptEvent, AttemptFailed, Warned
from halos_backend.records import Completion, Group, read_rows, write_rows
from halos_backend.stages.label.stage import execute
from halos_backend.stages.runtime import StageResult, open_attempt
from halos_backend.store.job import Job, LabelInputs, write_job
from halos_backend.store.reader import attempt_journal
from halos_backend.store.run_dir import AttemptDir

from tests.support.forks import forking_python
from tests.support.word_level import word_level

SPECIAL = ["<unk>", "<bos>", "<eos>", "<user>", "<assistant>", "<system>", "<pad>"]
WORDS = [f"w{number}" for number in range(60)]
VOCABULARY = {token: index for index, token in enumerate([*SPECIAL, *WORDS])}
TEMPLATE = (
    "<bos>{% for message in messages %} <{{ message['role'] }}> {{ message['content'] }} <eos>"
    "{% endfor %}{% if add_generation_prompt %} <assistant>{% endif %}"
)


def expected_ids(group: Group, completion: Completion) -> list[int]:
    """The conversation's tokens, put together by hand as TEMPLATE means them."""
    words = ["<bos>"]
    for message in (*group.prompt, {"role": "assistant", "content": completion.text}):
        words += [f"<{message['role']}>", *message["content"].split(), "<eos>"]
    return [VOCABULARY[word] for word in words]


def save_tokenizer(
    path: Path, *, template: str | None = TEMPLATE, pad: str | None = "<pad>"
) -> None:
    """A word-level tokenizer that puts <bos> before what is tokenized with special tokens."""
    from tokenizers import pre_tokenizers, processors

    tokenizer = word_level(
        list(VOCABULARY),
        pre_tokenizers.WhitespaceSplit(),
        unknown="<unk>",
        before=processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", VOCABULARY["<bos>"])]
        ),
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        **({"pad_token": pad} if pad else {}),
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(path)


def tiny_config(
    *,
    num_labels: int = 1,
    pad_token_id: int | None = VOCABULARY["<pad>"],
    hidden_size: int = 32,
) -> Any:
    """Of a Llama with two heads; those of 32, in 64, are the smallest that vLLM takes on a CPU."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=hidden_size,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        num_labels=num_labels,
        pad_token_id=pad_token_id,
        bos_token_id=VOCABULARY["<bos>"],
        eos_token_id=VOCABULARY["<eos>"],
        initializer_range=0.5,
    )


def save_classifier(
    path: Path,
    *,
    num_labels: int = 1,
    pad_token_id: int | None = VOCABULARY["<pad>"],
    hidden_size: int = 32,
) -> Path:
    """A random Llama classifier and its tokenizer."""
    import torch
    from transformers import LlamaForSequenceClassification

    torch.manual_seed(7)
    config = tiny_config(num_labels=num_labels, pad_token_id=pad_token_id, hidden_size=hidden_size)
    LlamaForSequenceClassification(config).save_pretrained(path)
    save_tokenizer(path)
    return path


def ragged_groups(num_groups: int, group_size: int, *, longest: int = 40) -> list[Group]:
    """Groups whose completions have 1 to `longest` words, the same every time."""
    groups = []
    for row in range(num_groups):
        completions = []
        for column in range(group_size):
            text = words(3 * row + column, 1 + (7 * row + 5 * column) % longest)
            completions.append(completion(f"p{row}-c{column}", text))
        groups.append(group(f"p{row}", completions, content=words(row, 1 + row % 5)))
    return groups


def words(first: int, count: int) -> str:
    return " ".join(WORDS[(first + 11 * step) % len(WORDS)] for step in range(count))


def completion(
    completion_id: str, text: str, *, reward: float | None = None, num_tokens: int | None = None
) -> Completion:
    """Its token ids are told apart by its name, and nobody scores by them."""
    count = len(text.split()) if num_tokens is None else num_tokens
    first = crc32(completion_id.encode())
    return Completion(
        completion_id, text, tuple(range(first, first + count)), "stop", reward=reward
    )


def group(
    prompt_id: str,
    completions: Sequence[Completion],
    *,
    content: str = "w0",
    columns: dict[str, Any] | None = None,
) -> Group:
    return Group(
        prompt_id=prompt_id,
        prompt=({"role": "user", "content": content},),
        prompt_token_ids=(1, 2, 3),
        policy_version=0,
        completions=tuple(completions),
        columns=columns or {},
    )


def scored_group(prompt_id: str, rewards: Sequence[float | None]) -> Group:
    """A group whose completions are named c0, c1, ... and have these rewards."""
    return group(
        prompt_id,
        [
            completion(f"{prompt_id}-c{index}", "w1", reward=reward)
            for index, reward in enumerate(rewards)
        ],
    )


def reward_model_judge(path: Path, **settings: Any) -> dict[str, Any]:
    return {"kind": "reward_model", "path": str(path), **settings}


def function_judge(path: Path, name: str = "judge") -> dict[str, Any]:
    return {"kind": "function", "function": f"{path}:{name}"}


def make_attempt(
    path: Path,
    groups: Sequence[Group],
    judge: dict[str, Any],
    *,
    feedback: dict[str, Any] | None = None,
    label: dict[str, Any] | None = None,
    sample: dict[str, Any] | None = None,
    wants_feedback: bool = True,
    num_processes: int = 1,
    earlier: Sequence[Path] = (),
    device: str = "cpu",
) -> Path:
    """An attempt directory with its job; the completions lie beside it. `label`: more settings."""
    path.mkdir(parents=True)
    completions = path.parent / "completions.jsonl"
    write_rows(completions, groups)
    settings = {
        "policy": {"path": "unused"},
        "prompts": {"path": "unused"},
        "sample": sample or {},
        "label": {"judge": judge, "feedback": feedback or {"kind": "pairwise"}, **(label or {})},
        "train": {"loss": {"kind": "dpo"}},
        "launch": {"device": device},
    }
    job = Job(
        run="run",
        round=1,
        stage="label",
        attempt=len(earlier) + 1,
        seed=0,
        num_threads=1,
        num_processes=num_processes,
        settings=settings,
        inputs=LabelInputs(str(completions), wants_feedback=wants_feedback),
        earlier_attempts=tuple(str(attempt) for attempt in earlier),
    )
    write_job(AttemptDir(path).job, job)
    return path


def label(path: Path) -> StageResult:
    """Run the stage in this process."""
    return execute(open_attempt(path))


def stage_command(python: str, path: Path, *, num_processes: int = 1) -> list[str]:
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(num_processes)]
        if num_processes > 1
        else []
    )
    stage = ["-m", "halos_backend.stages.label", "--attempt-dir", str(path)]
    return [python, *launcher, *stage]


def stage_environment() -> dict[str, str]:
    return {
        **os.environ,
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }


def start_stage(
    path: Path, *, num_processes: int = 1, python: str = sys.executable
) -> subprocess.Popen[bytes]:
    """The stage as a process of its own, to be killed; `python` starts it."""
    with AttemptDir(path).log.open("wb") as log:
        return subprocess.Popen(
            stage_command(python, path, num_processes=num_processes),
            stdout=log,
            stderr=log,
            env=stage_environment(),
        )


def run_stage_process(path: Path, *, num_processes: int = 1) -> int:
    """Its exit code; its libraries are imported already."""
    process = start_stage(path, num_processes=num_processes, python=forking_python())
    return process.wait(timeout=120)


def rewards_of(path: Path) -> list[float | None]:
    return [entry.reward for group in scores(path) for entry in group.completions]


def reasons_of(path: Path) -> list[str | None]:
    return [entry.unscored for group in scores(path) for entry in group.completions]


def scores(path: Path) -> list[Group]:
    return list(read_rows(AttemptDir(path).scores, Group))


def events(path: Path) -> list[AttemptEvent]:
    return attempt_journal(AttemptDir(path).events).read()


def warnings(path: Path) -> list[str]:
    return [event.text for event in events(path) if isinstance(event, Warned)]


def failures(path: Path) -> list[str]:
    return [event.reason for event in events(path) if isinstance(event, AttemptFailed)]


def done_summary(path: Path) -> dict[str, Any]:
    return msgspec.json.decode(AttemptDir(path).done.read_bytes())["summary"]
