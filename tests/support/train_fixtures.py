"""Tiny random policies, feedback rows and jobs for the tests of training."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from halos_backend.config.schema import RunSettings
from halos_backend.events import AttemptEvent, MetricsLogged, Warned
from halos_backend.records import (
    Completion,
    Group,
    PreferencePair,
    UnpairedFeedback,
    write_rows,
)
from halos_backend.stages.runtime import open_attempt
from halos_backend.stages.train.__main__ import execute
from halos_backend.store.job import Job, TrainInputs, write_job
from halos_backend.store.manifest import write_done
from halos_backend.store.reader import attempt_journal
from halos_backend.store.run_dir import AttemptDir
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tests.support.fork_server import CHANGE
from tests.support.forks import forking_python
from tests.support.word_level import word_level

VOCABULARY = 64
PAD, END, GOOD, BAD = 0, 1, 2, 3
TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}"


def make_tokenizer() -> PreTrainedTokenizerFast:
    special = ["<pad>", "<end>", "<|good|>", "<|bad|>"]
    words = [*special, *(f"w{number}" for number in range(len(special), VOCABULARY))]
    return word_level(
        words,
        WhitespaceSplit(),
        unknown="w4",
        pad_token="<pad>",
        eos_token="<end>",
        chat_template=TEMPLATE,
    )


def make_policy(
    path: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32, **config: Any
) -> Path:
    """A random Llama of two layers, 32 wide, with its tokenizer."""
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "pad_token_id": PAD,
        "eos_token_id": END,
        "bos_token_id": None,
        "initializer_range": 0.2,
    }
    return save_policy(LlamaForCausalLM(LlamaConfig(**{**sizes, **config})).to(dtype), path)


def save_policy(model: PreTrainedModel, path: Path) -> Path:
    """With the tokenizer of these tests."""
    model.save_pretrained(path)
    make_tokenizer().save_pretrained(path)
    return path


def make_gemma2(path: Path, **config: Any) -> Path:
    """Of eager attention alone, for its soft caps."""
    torch.manual_seed(0)
    return save_policy(Gemma2ForCausalLM(Gemma2Config(**{**GEMMA, **config})), path)


def make_gemma3(path: Path, *, dtype: torch.dtype = torch.float32) -> Path:
    """A policy that also sees."""
    torch.manual_seed(0)
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    config = Gemma3Config(text_config=GEMMA, vision_config=vision, mm_tokens_per_image=4)
    return save_policy(Gemma3ForConditionalGeneration(config).to(dtype), path)


GEMMA: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "max_position_embeddings": 128,
    "pad_token_id": PAD,
    "eos_token_id": END,
    "bos_token_id": None,
    "initializer_range": 0.2,
}


def load_plain(path: Path | str) -> Any:
    """A checkpoint as any other program would load it, in fp32."""
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def _completion(rng: random.Random, name: str, reward: float | None = None) -> Completion:
    ids = tuple(rng.randrange(4, VOCABULARY) for _ in range(rng.randint(1, 9)))
    return Completion(name, "text", (*ids, END), "stop", reward)


def _prompt(rng: random.Random) -> tuple[int, ...]:
    return tuple(rng.randrange(4, VOCABULARY) for _ in range(rng.randint(2, 7)))


MESSAGES = ({"role": "user", "content": "w5"},)


def pairs(count: int, *, seed: int = 1) -> list[PreferencePair]:
    rng = random.Random(seed)
    return [
        PreferencePair(
            f"p{i}", MESSAGES, _prompt(rng), _completion(rng, "a"), _completion(rng, "b"), 1.0, 0.0
        )
        for i in range(count)
    ]


def unpaired(count: int, *, seed: int = 2) -> list[UnpairedFeedback]:
    rng = random.Random(seed)
    return [
        UnpairedFeedback(
            f"p{i}", MESSAGES, _prompt(rng), _completion(rng, "a"), i % 3 != 0, float(i % 3)
        )
        for i in range(count)
    ]


def groups(count: int, *, size: int = 4, seed: int = 3) -> list[Group]:
    rng = random.Random(seed)
    return [
        Group(
            f"p{i}",
            MESSAGES,
            _prompt(rng),
            0,
            tuple(_completion(rng, f"c{j}", rng.random()) for j in range(size)),
        )
        for i in range(count)
    ]


FEEDBACK_KINDS = {
    PreferencePair: {"kind": "pairwise"},
    UnpairedFeedback: {"kind": "binary"},
    Group: {"kind": "scalar"},
}


def make_attempt(
    directory: Path,
    rows: Sequence[Any],
    *,
    model: Path | str,
    loss: dict[str, Any],
    initial: Path | str | None = None,
    reference: Path | str | None = None,
    completions: Path | None = None,
    trainer_state: Path | None = None,
    reset_optimizer: str | None = None,
    policy: dict[str, Any] | None = None,
    round: int = 1,
    num_processes: int = 1,
    earlier_attempts: tuple[str, ...] = (),
    progress: tuple[float, float] = (0.0, 1.0),
    sharding: str = "none",
    device: str = "cpu",
    sample: dict[str, Any] | None = None,
    **train: Any,
) -> AttemptDir:
    """An attempt directory with its job and feedback; `train` are settings of [train]."""
    directory.mkdir(parents=True)
    first = Path(earlier_attempts[0]) if earlier_attempts else directory
    feedback = first.with_name(f"{first.name}.feedback.jsonl")
    if not earlier_attempts:
        write_rows(feedback, rows)
    launch = {"num_processes": num_processes, "sharding": sharding}
    quick = {"lr": 1e-3, "schedule": "constant", "warmup_frac": 0.0}
    settings = RunSettings.model_validate(
        {
            "policy": {"path": str(initial or model), **(policy or {})},
            "prompts": {"path": "prompts.jsonl"},
            "label": {
                "judge": {"kind": "function", "function": "judge.py:judge"},
                "feedback": FEEDBACK_KINDS[type(rows[0])] if rows else {"kind": "pairwise"},
            },
            "sample": sample or {},
            "train": {**quick, **train, "loss": loss},
            "launch": {"device": device, **launch},
        }
    )
    attempt = AttemptDir(directory)
    inputs = TrainInputs(
        model=str(model),
        initial=str(initial or model),
        reference=str(reference) if reference else None,
        feedback=str(feedback),
        completions=str(completions or directory.parent / "none.jsonl"),
        trainer_state=str(trainer_state) if trainer_state else None,
        progress_start=progress[0],
        progress_end=progress[1],
        first_step=0,
        reset_optimizer=reset_optimizer,
    )
    job = Job(
        run="test",
        round=round,
        stage="train",
        attempt=1 + len(earlier_attempts),
        seed=7,
        num_threads=1,
        num_processes=num_processes,
        settings=settings.model_dump(mode="json"),
        inputs=inputs,
        earlier_attempts=earlier_attempts,
    )
    write_job(attempt.job, job)
    return attempt


def train(attempt: AttemptDir) -> dict[str, Any]:
    """Run the attempt in this process, up to DONE; returns its summary."""
    result = execute(open_attempt(attempt.path))
    write_done(attempt.path, result.outputs, result.summary.as_json())
    return result.summary.as_json()


def command(
    attempt: AttemptDir, *, num_processes: int = 1, python: str = sys.executable
) -> list[str]:
    stage = ["-m", "halos_backend.stages.train", "--attempt-dir", str(attempt.path)]
    if num_processes == 1:
        return [python, *stage]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    return [python, *launcher, str(num_processes), *stage]


def environment(change: Path | None = None) -> dict[str, str]:
    """Forks execute the `change` to the product before their program."""
    return {
        **os.environ,
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        **({} if change is None else {CHANGE: str(change)}),
    }


def train_in_process(attempt: AttemptDir, *, num_processes: int = 1) -> None:
    """Run the attempt as the supervisor would, in processes that have their libraries already."""
    ended = run_in_process(attempt, num_processes=num_processes)
    assert ended.returncode == 0, ended.stderr[-3000:]


def run_in_process(
    attempt: AttemptDir, *, num_processes: int = 1, change: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(attempt, num_processes=num_processes, python=forking_python()),
        env=environment(change),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def events(attempt: AttemptDir) -> list[AttemptEvent]:
    return attempt_journal(attempt.events).read()


def metrics(attempt: AttemptDir) -> dict[int, dict[str, float]]:
    """The logged metrics by step; none may have been non-finite."""
    logged = [event for event in events(attempt) if isinstance(event, MetricsLogged)]
    assert not [event for event in logged if event.non_finite]
    return {event.step: event.metrics for event in logged}


def warnings_of(attempt: AttemptDir) -> list[str]:
    """But for the one that most of these rounds have: nobody sampled for them."""
    texts = [event.text for event in events(attempt) if isinstance(event, Warned)]
    return [text for text in texts if "log-probabilities of the sampler's" not in text]


def weights_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint, as it is on disk."""
    from safetensors.torch import load_file

    return load_file(checkpoint / "model.safetensors")


def summary_of(attempt: AttemptDir) -> dict[str, Any]:
    return msgspec.json.decode(attempt.done.read_bytes())["summary"]


def token_logps_alone(model: Any, prompt: Sequence[int], completion: Sequence[int]) -> torch.Tensor:
    """An independent computation: one sequence, no padding, the model's own logits, in fp64."""
    ids = torch.tensor([[*prompt, *completion]])
    logits = model(input_ids=ids).logits[0].double()
    logps = logits.log_softmax(-1)
    first = len(prompt)
    return torch.stack([logps[first + i - 1, token] for i, token in enumerate(completion)])


def kl_alone(
    model: Any, other: Any, prompt: Sequence[int], completion: Sequence[int]
) -> torch.Tensor:
    """KL(model || other) of the next token before each of the completion's, in fp64."""
    ids = torch.tensor([[*prompt, *completion]])
    ours, theirs = (m(input_ids=ids).logits[0].double().softmax(-1) for m in (model, other))
    kls: torch.Tensor = (ours * (ours.log() - theirs.log())).sum(-1)
    return kls[len(prompt) - 1 : -1]


def write_completions(path: Path, rows: Sequence[Group]) -> Path:
    """A round's `completions.jsonl`."""
    write_rows(path, rows)
    return path
