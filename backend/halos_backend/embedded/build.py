"""Makes the tiny policy and reward model with our own trainers, once, into the user's cache.

The policy is a random Llama after `sft` on right answers; the reward model is that policy's body
after `bradley_terry` on right against wrong ones.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from halos_backend import atomic
from halos_backend.config.schema import LaunchSettings, RunSettings
from halos_backend.embedded.recipe import EmbeddedFiles, Recipe
from halos_backend.embedded.task import VERB, Problem, corrupt, problems, unique_problems
from halos_backend.errors import HalosError
from halos_backend.events import Progressed
from halos_backend.interpreters.programs import program, stage_environment
from halos_backend.records import Completion, PreferencePair, UnpairedFeedback, write_rows
from halos_backend.stages.chat import prompt_token_ids
from halos_backend.store.job import Job, TrainInputs, write_job
from halos_backend.store.reader import attempt_journal, tail_lines
from halos_backend.store.run_dir import AttemptDir, cache_root

Report = Callable[[str, int, int], None]
"""Is called with what is made, and how many of how many steps are done."""

POLL_S = 0.1


@dataclass(frozen=True)
class Training:
    """Is one model to make: from the model at `start`; the checkpoint becomes `target`."""

    what: str
    loss: str
    lr: float
    start: Path
    target: Path


def embedded_files(recipe: Recipe, cache: Path | None = None) -> EmbeddedFiles:
    """Returns where the recipe's files are, or will be."""
    return EmbeddedFiles((cache or cache_root()) / "embedded" / recipe.digest)


def ensure_built(recipe: Recipe, report: Report, *, cache: Path | None = None) -> EmbeddedFiles:
    """Builds what is not there yet; two processes that build at once wait for each other.

    Raises HalosError when a model cannot be trained or the cache cannot be written.
    """
    files = embedded_files(recipe, cache)
    if files.path.is_dir():
        return files
    folder = files.path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            # A stage that outlives a killed build keeps the lock: the next build must not meet it.
            os.set_inheritable(lock.fileno(), True)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not files.path.is_dir():
                _build_aside(recipe, files, report)
    except OSError as error:
        raise HalosError(
            f"the embedded models could not be made in {folder}: {error}",
            fix="mend that, or set HALOS_CACHE_DIR to another folder",
        ) from error
    return files


def _build_aside(recipe: Recipe, files: EmbeddedFiles, report: Report) -> None:
    """Builds in a folder beside: the final name appears only when everything is there."""
    unfinished = EmbeddedFiles(files.path.with_name(f"{recipe.digest}.unfinished"))
    shutil.rmtree(unfinished.path, ignore_errors=True)
    unfinished.path.mkdir()
    _build(recipe, unfinished, report)
    unfinished.path.rename(files.path)
    atomic.fsync_dir(files.path.parent)


def _build(recipe: Recipe, files: EmbeddedFiles, report: Report) -> None:
    held_out = unique_problems(recipe.num_held_out, recipe.seed)
    without = frozenset(held_out)
    _write_problems(files.held_out, held_out)
    _write_problems(
        files.prompts, unique_problems(recipe.num_prompts, recipe.seed + 1, without=without)
    )
    untrained = files.path / "untrained"
    _save_untrained(recipe, untrained)
    encoder = Encoder(untrained)
    numbers = random.Random(recipe.seed + 2)
    others = problems(recipe.seed + 3, without=without)
    answers = [
        demonstration(problem, encoder, numbers, careless_frac=recipe.careless_frac)
        for problem in islice(others, recipe.policy_steps * recipe.batch_size)
    ]
    policy = Training("policy", "sft", recipe.policy_lr, untrained, files.policy)
    _train(policy, answers, recipe=recipe, report=report)
    pairs = [
        answer_pair(problem, encoder, numbers)
        for problem in islice(others, recipe.reward_model_steps * recipe.batch_size)
    ]
    reward_model = Training(
        "reward model", "bradley_terry", recipe.reward_model_lr, files.policy, files.reward_model
    )
    _train(reward_model, pairs, recipe=recipe, report=report)
    shutil.rmtree(untrained)


def _write_problems(path: Path, rows: Iterable[Problem]) -> None:
    lines = (json.dumps({"prompt": row.prompt, "answer": row.answer}) + "\n" for row in rows)
    path.write_text("".join(lines))


def _save_untrained(recipe: Recipe, path: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from halos_backend.embedded.tokenizer import make_tokenizer

    torch.manual_seed(recipe.seed)
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=recipe.num_heads,
        num_key_value_heads=recipe.num_heads,
        max_position_embeddings=64,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)


def _train(training: Training, rows: list[Any], *, recipe: Recipe, report: Report) -> None:
    """Runs our train stage on `rows`."""
    target = training.target
    attempt = AttemptDir(target.with_name(f"{target.name}.attempt"))
    attempt.path.mkdir()
    write_rows(attempt.feedback, rows)
    write_job(attempt.job, _job(training, attempt, recipe))
    with attempt.log.open("wb") as log:
        child = subprocess.Popen(
            program("halos_backend.stages.train", "--attempt-dir", attempt.path),
            cwd=attempt.path,
            env=stage_environment(attempt.path, LaunchSettings(device="cpu")),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            close_fds=False,  # the lock goes along
        )
    try:
        _follow(child, attempt, training.what, report=report)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    if child.returncode != 0 or not attempt.done.exists():
        reason = "\n".join(tail_lines(attempt.log, 15))
        raise HalosError(f"the embedded {training.what} could not be trained:\n{reason}")
    attempt.checkpoint.rename(target)
    shutil.rmtree(attempt.path)


def _follow(
    child: subprocess.Popen[bytes], attempt: AttemptDir, what: str, *, report: Report
) -> None:
    """Reports the stage's progress until it ends."""
    journal = attempt_journal(attempt.events)
    has_ended = False
    while not has_ended:
        has_ended = child.poll() is not None  # before the read, so that the last steps are in it
        for event in journal.read():
            if isinstance(event, Progressed):
                report(what, event.done, event.total)
        if not has_ended:
            time.sleep(POLL_S)


def _job(training: Training, attempt: AttemptDir, recipe: Recipe) -> Job:
    start, loss = training.start, training.loss
    settings = RunSettings.model_validate(
        {
            "policy": {"path": str(start)},
            "prompts": {"path": str(attempt.feedback)},
            "loop": {"seed": recipe.seed},
            "label": {
                "judge": {"kind": "function", "function": "none.py:none"},
                "feedback": {"kind": "binary" if loss == "sft" else "pairwise"},
            },
            "train": {
                "loss": {"kind": loss},
                "lr": training.lr,
                "batch_size": recipe.batch_size,
                "schedule": "cosine",
                "schedule_scope": "round",
                "warmup_frac": 0.05,
                "adam_beta2": 0.98,
                "save_every_steps": 100000,
            },
            "launch": {"num_threads": 1, "device": "cpu"},
        }
    )
    return Job(
        run="embedded",
        round=1,
        stage="train",
        attempt=1,
        seed=recipe.seed,
        num_threads=1,
        num_processes=1,
        settings=settings.model_dump(mode="json"),
        inputs=TrainInputs(
            model=str(start),
            initial=str(start),
            reference=None,
            feedback=str(attempt.feedback),
            completions=str(attempt.feedback),
            trainer_state=None,
            progress_start=0.0,
            progress_end=1.0,
            first_step=0,
        ),
    )


class Encoder:
    """Makes token ids of prompts and completions.

    The template's own tokens are taken from one rendered prompt: rendering each would cost more
    than the training.
    """

    def __init__(self, tokenizer_path: Path) -> None:
        from transformers import AutoTokenizer  # 2 s that a built cache need not wait

        tokenizer = AutoTokenizer.from_pretrained(tokenizer_path)
        self._ids: dict[str, int] = tokenizer.get_vocab()
        self._end = int(tokenizer.eos_token_id)
        rendered = prompt_token_ids(tokenizer, [[{"role": "user", "content": VERB}]])[0]
        place = rendered.index(self._ids[VERB])
        self._before, self._after = rendered[:place], rendered[place + 1 :]

    def prompt(self, text: str) -> tuple[int, ...]:
        return (*self._before, *(self._ids[word] for word in text.split()), *self._after)

    def completion(self, text: str) -> Completion:
        ids = (*(self._ids[word] for word in text.split()), self._end)
        return Completion("0", text, ids, "stop")


def demonstration(
    problem: Problem, encoder: Encoder, numbers: random.Random, *, careless_frac: float
) -> UnpairedFeedback:
    """Returns a problem as a careless student solves it: a policy that imitates this has much to
    learn.
    """
    is_careless = numbers.random() < careless_frac
    answer = corrupt(problem.answer, numbers, num_errors=1) if is_careless else problem.answer
    return UnpairedFeedback(
        prompt_id=problem.prompt,
        prompt=({"role": "user", "content": problem.prompt},),
        prompt_token_ids=encoder.prompt(problem.prompt),
        completion=encoder.completion(answer),
        is_desirable=True,
        reward=1.0,
    )


def answer_pair(problem: Problem, encoder: Encoder, numbers: random.Random) -> PreferencePair:
    """Returns the answer against a wrong one; now and then a wrong one against a worse one."""
    is_right = numbers.random() < 0.8
    chosen = problem.answer if is_right else corrupt(problem.answer, numbers, num_errors=1)
    rejected = corrupt(problem.answer, numbers, num_errors=1 if is_right else 3)
    return PreferencePair(
        prompt_id=problem.prompt,
        prompt=({"role": "user", "content": problem.prompt},),
        prompt_token_ids=encoder.prompt(problem.prompt),
        chosen=encoder.completion(chosen),
        rejected=encoder.completion(rejected),
        reward_chosen=1.0,
        reward_rejected=0.0,
    )
