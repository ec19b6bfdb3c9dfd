"""Judges whether vLLM and what shares its GPUs fit: they take turns, and leave something behind."""

from __future__ import annotations

from halos_backend.config.schema import RewardModelJudge, RunSettings
from halos_backend.config.warmth import ENGINE_SHARE, PARKED_BYTES
from halos_backend.findings import Finding, in_gib

WITHOUT = "set sample.engine = 'transformers'"


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
