"""Examines a run's settings: what they would need here, and what a person may not have meant.

It also examines the kernels, and whether vLLM and what shares its GPUs fit, since they take turns
and leave something behind. It owns the names of known evaluation sets: a policy must not train on
what it is evaluated by.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

from halos_backend.config.kernels import find_liger_obstacle
from halos_backend.config.needs import (
    disk_needed_bytes,
    example_noun,
    examples_per_round,
    max_steps,
    trainer_memory_bytes,
)
from halos_backend.config.schema import PromptsSettings, RewardModelJudge, RunSettings
from halos_backend.config.warmth import ENGINE_SHARE, PARKED_BYTES, ModelSizes, foresee
from halos_backend.doctor.disk import existing_parent
from halos_backend.doctor.gpu import examine_devices, gpu_memory_bytes
from halos_backend.findings import Finding, Prepared, in_gib
from halos_backend.interpreters.device import device_of
from halos_backend.store.run_dir import default_runs_root
from halos_backend.telemetry.host import Host

TIGHT_SHARE = 0.8
"""Is the share from which a full GPU is a warning: activations and logits need room too."""

EVALUATION_WORDS = frozenset({"test", "eval", "evaluation", "val", "validation", "heldout", "dev"})
WITHOUT = "set sample.engine = 'transformers'"


def examine_settings(
    settings: RunSettings, *, prepared: Prepared | None, runs_root: Path | None = None
) -> list[Finding]:
    """Examines what a run of these settings needs.

    `prepared` is what is known of the inputs. Disk and memory are judged only where it has
    `num_parameters` and `checkpoint_bytes`, vLLM's memory where its `sampler` is vLLM.
    """
    known = prepared or Prepared()
    num_parameters, checkpoint_bytes = known.num_parameters, known.checkpoint_bytes
    findings = [
        examine_prompts(settings),
        examine_batch(settings),
        *examine_lengths(settings),
        examine_devices(settings.launch),
        *examine_kernels(settings),
    ]
    if num_parameters is None or checkpoint_bytes is None:
        return [
            *findings,
            Finding(
                "ok",
                "needs",
                "known once the policy has been looked at, as halos-tui run FILE --dry-run does",
            ),
        ]
    needed = disk_needed_bytes(
        settings,
        num_parameters=num_parameters,
        checkpoint_bytes=checkpoint_bytes,
        num_prompts=known.num_prompts,
    )
    root = existing_parent(runs_root or default_runs_root())
    memory = trainer_memory_bytes(
        settings, num_parameters=num_parameters, checkpoint_bytes=checkpoint_bytes
    )
    gpu = gpu_memory_bytes(settings.launch) if settings.launch.device == "auto" else None
    if gpu is not None and known.sampler == "vllm":
        findings.append(
            examine_engine_memory(settings, checkpoint_bytes=checkpoint_bytes, memory=gpu)
        )
    available = Host(root).read().memory_available_bytes
    return [
        *findings,
        *examine_warmth(settings, known, room_bytes=available, gpu_bytes=gpu),
        examine_disk(needed, shutil.disk_usage(root).free),
        examine_gpu_memory(memory, gpu)
        if gpu is not None
        else examine_cpu_memory(
            memory, psutil.virtual_memory().available, settings.launch.num_processes
        ),
    ]


def examine_prompts(settings: RunSettings) -> Finding:
    known = find_evaluation_set(settings.prompts)
    if known is None:
        return Finding("ok", "prompts", f"{settings.prompts.path} is no known evaluation set")
    splits = known.training_splits
    fix = f"set prompts.split to '{splits[0]}'" if splits else "name other prompts in prompts.path"
    return Finding(
        "warning",
        "prompts",
        f"{settings.prompts.path} looks like {known.name}: the run trains on what it is judged by",
        fix,
    )


def examine_batch(settings: RunSettings) -> Finding:
    train, processes = settings.train, settings.launch.num_processes
    most = examples_per_round(settings)
    steps = max_steps(settings)
    shared = f", {train.batch_size // processes} on each of {processes}" if processes > 1 else ""
    text = (
        f"one step sees {train.batch_size} {example_noun(settings)}{shared};"
        f" a round has at most {most}, so {steps} {'step' if steps == 1 else 'steps'}"
    )
    if most < train.batch_size:
        return Finding(
            "warning",
            "batch",
            f"{text}: less than one batch",
            "raise loop.prompts_per_round or lower train.batch_size",
        )
    return Finding("ok", "batch", text)


def examine_lengths(settings: RunSettings) -> list[Finding]:
    judge, completion = settings.label.judge, settings.sample.max_new_tokens
    findings = []
    if isinstance(judge, RewardModelJudge) and judge.max_tokens is not None:
        longest = (settings.prompts.max_tokens or 0) + completion
        if judge.max_tokens < longest:
            findings.append(
                Finding(
                    "warning",
                    "lengths",
                    f"conversations of up to {longest} tokens may be sampled, but those of more"
                    f" than label.judge.max_tokens = {judge.max_tokens} stay unscored",
                    "lower sample.max_new_tokens or raise label.judge.max_tokens",
                )
            )
    return findings


def examine_disk(needed: int, free: int) -> Finding:
    text = f"needs up to {in_gib(needed)}, {in_gib(free)} are free"
    if needed > free:
        fix = "free some space, lower loop.keep_checkpoints, or set HALOS_RUNS_DIR to another disk"
        return Finding("problem", "disk", text, fix)
    return Finding("ok", "disk", text)


def examine_warmth(
    settings: RunSettings,
    prepared: Prepared,
    *,
    room_bytes: int | None,
    gpu_bytes: int | None,
) -> list[Finding]:
    """Says what `launch.warm_workers` comes to; nothing where the inputs could not be measured."""
    wanted, sizes = settings.launch.warm_workers, ModelSizes.of(prepared)
    if sizes is None or room_bytes is None or wanted is False:
        return []
    found = foresee(settings, sizes, room_bytes=room_bytes, gpu_bytes=gpu_bytes)
    if found.is_warm:
        text = f"they stay between rounds: {found.reason}"
        return [Finding("ok", "programs", text)]
    if wanted == "auto":
        text = f"each stage starts one of its own in every round: {found.reason}"
        return [Finding("ok", "programs", text)]
    text = f"they stay between rounds, as launch.warm_workers = true says, but {found.reason}"
    return [Finding("warning", "programs", text, "set launch.warm_workers = 'auto'")]


def examine_gpu_memory(needed: int, memory: int) -> Finding:
    """Examines the memory of training: each process trains on a GPU of its own."""
    return _examine_memory(needed, memory, "the smallest GPU has")


def examine_cpu_memory(needed_per_process: int, available: int, num_processes: int) -> Finding:
    return _examine_memory(needed_per_process * num_processes, available, "available are")


def _examine_memory(needed: int, available: int, whose: str) -> Finding:
    text = f"training needs {in_gib(needed)} and activations, {whose} {in_gib(available)}"
    fix = "train adapters ([train.lora]), or a smaller policy"
    if needed > available:
        return Finding("problem", "memory", text, fix)
    if needed > TIGHT_SHARE * available:
        return Finding(
            "warning", "memory", text, "lower train.microbatch_tokens, set gradient_checkpointing"
        )
    return Finding("ok", "memory", text)


def examine_kernels(settings: RunSettings) -> list[Finding]:
    """Examines kernels; returns nothing where the trainer takes torch's own."""
    if settings.train.kernels == "torch":
        return []
    text, fix = find_liger_obstacle(has_gpu=device_of(settings.launch) != "cpu")
    if text:
        return [Finding("problem", "kernels", text, fix)]
    return [Finding("ok", "kernels", "the trainer takes Liger's")]


@dataclass(frozen=True)
class EvaluationSet:
    """Is a known set: `training_splits` may be trained on; a set without any is for evaluation
    only.
    """

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


def find_evaluation_set(prompts: PromptsSettings) -> EvaluationSet | None:
    """Finds the known evaluation set that these prompts are, by the name and split; None
    if none.
    """
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


def examine_engine_memory(settings: RunSettings, *, checkpoint_bytes: int, memory: int) -> Finding:
    """Examines the memory of a GPU: `memory` is that of the smallest, `checkpoint_bytes` are the
    policy's weights.
    """
    vllm = settings.sample.vllm
    share = vllm.gpu_memory_utilization or ENGINE_SHARE
    parked = 2 * PARKED_BYTES if settings.launch.warm_workers is True else 0
    weights = checkpoint_bytes // vllm.tensor_parallel_size
    if settings.loop.overlap and vllm.gpu_memory_utilization is None and _needs_gpu(settings):
        return Finding(
            "problem",
            "sampler memory",
            f"with loop.overlap the reward model is loaded beside vLLM, which takes {share:.0%} of"
            " the GPU's memory",
            "set sample.vllm.gpu_memory_utilization, 0.6 say, or loop.overlap = false",
        )
    judge_share = _judge_share(settings)
    if settings.loop.overlap and share + judge_share > 1:
        return Finding(
            "problem",
            "sampler memory",
            f"with loop.overlap two vLLMs, of sampler and judge, take {share:.0%} and"
            f" {judge_share:.0%} of the GPU's memory",
            "set sample.vllm.gpu_memory_utilization and label.judge.vllm.gpu_memory_utilization,"
            " 0.45 each say, or loop.overlap = false",
        )
    text = (
        f"vLLM takes {in_gib(share * memory)} of the smallest GPU's {in_gib(memory)}, its part of"
        f" the policy {in_gib(weights)}"
    )
    if weights >= share * memory:
        fix = f"raise sample.vllm.tensor_parallel_size, or {WITHOUT}"
        return Finding("problem", "sampler memory", text, fix)
    if share * memory + parked > memory:
        most = max(0, int(100 * (memory - parked) / memory)) / 100
        kept = f"{text}; the other warm workers keep {in_gib(parked)}"
        if weights < most * memory:
            fix = f"set sample.vllm.gpu_memory_utilization = {most}"
        else:
            fix = f"set launch.warm_workers = false, or {WITHOUT}"
        return Finding("problem", "sampler memory", kept, fix)
    return Finding("ok", "sampler memory", text)


def _judge_share(settings: RunSettings) -> float:
    """Returns what a judge's vLLM takes of a GPU's memory; 0 where there is none."""
    judge = settings.label.judge
    if not isinstance(judge, RewardModelJudge) or judge.engine != "vllm":
        return 0.0
    return judge.vllm.gpu_memory_utilization or ENGINE_SHARE


def _needs_gpu(settings: RunSettings) -> bool:
    return isinstance(settings.label.judge, RewardModelJudge)
