"""A place to run in: a tiny random policy, prompts, judges, and the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.support.command_line import run_halos, start_halos
from tests.support.word_level import word_level

LETTERS = "abcdefghijklmnopqrstuvwxyz "
TEMPLATE = (
    "{% for m in messages %}{{ '<s>' + m['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>' }}{% endif %}"
)
JUDGE = '''
import time
def vowels(prompt, completion, row):
    return sum(letter in "aeiou" for letter in completion) / 10
def vowels_slowly(prompt, completion, row):
    time.sleep(0.05)
    return vowels(prompt, completion, row)
def constant(prompt, completion, row):
    return 1.0
def raises(prompt, completion, row):
    raise ValueError("the judge is broken")
def moody(prompt, completion, row):
    """Text, NaN, an exception or a reward, by the length of the completion."""
    match len(completion) % 4:
        case 0: return "great"
        case 1: return float("nan")
        case 2: raise ValueError("no mood")
        case _: return float(len(completion))
'''


@dataclass(frozen=True)
class Finished:
    """A command that ended."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Place:
    """A directory with a policy, prompts, judges, and runs; `python` starts the command line."""

    path: Path
    python: str = sys.executable

    def config(self, **changes: Any) -> Path:
        """A run file; `changes` are dotted keys with '__' for '.'."""
        tables: dict[str, dict[str, Any]] = {
            "policy": {"path": str(self.path / "policy")},
            "prompts": {"path": str(self.path / "prompts.jsonl")},
            "loop": {"num_rounds": 2, "prompts_per_round": 6, "seed": 7, "score_final": False},
            "sample": {"group_size": 4, "max_new_tokens": 8, "temperature": 1.0, "batch_size": 8},
            "label.judge": {"kind": "function", "function": f"{self.path}/judge.py:vowels"},
            "label.feedback": {"kind": "pairwise"},
            "train": {"lr": 1e-3, "batch_size": 2, "save_every_steps": 1},
            "train.loss": {"kind": "dpo"},
            "launch": {"num_threads": 1, "device": "cpu"},
        }
        for key, value in changes.items():
            table, _, name = key.replace("__", ".").rpartition(".")
            if value is None:
                tables[table].pop(name, None)
            else:
                tables.setdefault(table, {})[name] = value
        lines = []
        for table, values in tables.items():
            lines.append(f"[{table}]")
            lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        path = self.path / "run.toml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def start(self, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        return start_halos(*self._asked(arguments), **self._options(cwd))

    def halos(self, *arguments: str, cwd: Path | None = None) -> Finished:
        """Run a command to its end."""
        done = run_halos(*self._asked(arguments), **self._options(cwd))
        return Finished(done.returncode, done.stdout, done.stderr)

    def _asked(self, arguments: Sequence[str]) -> list[str]:
        return [*arguments, "--runs-dir", str(self.runs)]

    def _options(self, cwd: Path | None) -> dict[str, Any]:
        program = (self.python, "-m", "halos_tui")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return {"program": program, "environment": environment, "cwd": cwd}

    def take(self, run: str, *, of: Place) -> None:
        """Have a copy of a run of another place, to go on from."""
        shutil.copytree(of.runs / run, self.runs / run, symlinks=True)

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    def events(self, run: str) -> list[dict[str, Any]]:
        lines = (self.runs / run / "events.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def weights(self, run: str) -> bytes:
        return (self.runs / run / "final" / "model.safetensors").read_bytes()


def make_tokenizer() -> PreTrainedTokenizerFast:
    return word_level(
        ["<pad>", "<s>", "</s>", *LETTERS],
        pre_tokenizers.Split("", "isolated"),
        unknown="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=TEMPLATE,
    )


def make_policy(path: Path) -> None:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    make_tokenizer().save_pretrained(path)


def make_place(policy: Path, path: Path, *, python: str = sys.executable) -> Place:
    (path / "policy").symlink_to(policy)
    (path / "judge.py").write_text(JUDGE)
    rows = [{"prompt": f"say {LETTERS[i]}{'x' * (i % 5)}", "answer": i} for i in range(20)]
    (path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Place(path, python)
