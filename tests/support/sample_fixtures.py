"""Owns what the sample stage's tests run on: a tiny policy, frozen prompts, attempt directories."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from halos_backend.config.schema import RunSettings
from halos_backend.records import Group, Prompt, read_rows, write_rows
from halos_backend.stages.runtime import StageResult, open_attempt
from halos_backend.stages.sample.stage import sample_round
from halos_backend.store.job import Job, SampleInputs, write_job
from halos_backend.store.run_dir import AttemptDir

from tests.support.place import make_policy

LETTERS = {letter: 3 + i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz ")}
TEXTS = ["hello", "a", "the quick brown fox", "zebra crossing", "mm", "one two three", "x y z"]


class SamplePlace:
    """A policy and prompts; each job gets an attempt directory of its own."""

    def __init__(self, path: Path, *, device: str = "cpu") -> None:
        self.path = path
        self.device = device
        self.policy = path / "policy"
        make_policy(self.policy)
        self.write_prompts(TEXTS)

    def write_prompts(self, texts: Sequence[str]) -> list[Prompt]:
        prompts = [
            Prompt(
                prompt_id=f"p{i}",
                prompt=({"role": "user", "content": text},),
                token_ids=(1, *(LETTERS[letter] for letter in text), 2, 1),
                columns={"row": i},
            )
            for i, text in enumerate(texts)
        ]
        write_rows(self.path / "prompts.jsonl", prompts)
        return prompts

    @property
    def num_prompts(self) -> int:
        return len(list(read_rows(self.path / "prompts.jsonl", Prompt)))

    def attempt(
        self,
        name: str,
        *,
        seed: int = 7,
        earlier: Sequence[AttemptDir] = (),
        policy: Path | None = None,
        loss: dict[str, Any] | None = None,
        **sample: Any,
    ) -> AttemptDir:
        """A fresh attempt directory with its job; `sample` are settings of that table."""
        directory = AttemptDir(self.path / name)
        directory.path.mkdir()
        policy = policy or self.policy
        count = self.num_prompts
        write_job(
            directory.job,
            Job(
                run="test",
                round=1,
                stage="sample",
                attempt=1 + len(earlier),
                seed=seed,
                num_threads=1,
                num_processes=1,
                settings=self.settings(sample, loss or {"kind": "dpo"}),
                inputs=SampleInputs(
                    str(policy), 0, str(self.path / "prompts.jsonl"), 0, count, base=str(policy)
                ),
                earlier_attempts=tuple(str(attempt.path) for attempt in earlier),
            ),
        )
        return directory

    def settings(self, sample: dict[str, Any], loss: dict[str, Any]) -> dict[str, Any]:
        table = {
            "policy": {"path": str(self.policy)},
            "prompts": {"path": "prompts.jsonl"},
            "sample": {
                "group_size": 2,
                "max_new_tokens": 10,
                "temperature": 1.0,
                "top_p": 1.0,
                "batch_size": 6,
                **sample,
            },
            "label": {
                "judge": {"kind": "function", "function": "judge.py:reward"},
                "feedback": {"kind": "pairwise"},
            },
            "train": {"loss": loss},
            "launch": {"num_threads": 1, "device": self.device},
        }
        return RunSettings.model_validate(table).model_dump(mode="json")


def run_here(directory: AttemptDir) -> StageResult:
    return sample_round(open_attempt(directory.path))


def start(directory: AttemptDir, *, python: str = sys.executable) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [python, "-m", "halos_backend.stages.sample", "--attempt-dir", str(directory.path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def groups_of(directory: AttemptDir) -> list[Group]:
    return list(read_rows(directory.completions, Group))


def by_id(directory: AttemptDir) -> dict[str, Group]:
    return {group.prompt_id: group for group in groups_of(directory)}
