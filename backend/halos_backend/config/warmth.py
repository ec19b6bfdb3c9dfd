"""Decides whether the programs of all stages fit into memory beside each other:
`launch.warm_workers`.

It is pure arithmetic. `doctor` foresees it, the supervisor decides by it: before a run's first
round by the sizes of its models, and then by the memory that its programs took.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from halos_backend.config.losses import LOSSES_WITH_REFERENCE
from halos_backend.config.needs import (
    MASTER_BYTES,
    MOMENT_BYTES,
    trained_parameters,
    trainer_memory_bytes,
)
from halos_backend.config.schema import RewardModelJudge, RunSettings
from halos_backend.events import Stage
from halos_backend.findings import GIB, MIB, Prepared, in_gib

LIBRARIES_BYTES = 350 * MIB
"""Is the memory of a process that has imported torch and transformers (344 MiB resident, 258 of
them its own).
"""
FUNCTION_BYTES = 100 * MIB
"""Is the memory of a label stage whose judge is a function, without what that function imports."""
VLLM_BYTES = 4 * GIB
"""Is the memory of vLLM's processes besides their weights; with SmolLM2-135M on a CPU all is 4.7
GB.
"""
FULL_FRAC = 0.8
"""Is the share of memory that programs may fill: activations, and whatever else comes, need the
rest.
"""
FULL_FRAC_MEASURED = 0.95
"""Is the same share where activations have been measured."""
ENGINE_SHARE = 0.92
"""Is the share of a GPU's memory that vLLM takes where no setting says otherwise."""
PARKED_BYTES = GIB // 2
"""Is the GPU memory of a process that has moved its models to host memory: CUDA's context,
libraries.
"""


class Program(NamedTuple):
    """Holds the host memory of one stage's program: the most while it works, and what it keeps
    after that.
    """

    peak_bytes: int
    kept_bytes: int


class ModelSizes(NamedTuple):
    """Holds the sizes that the check of the inputs counted. A judge of 0 parameters is a
    function.
    """

    num_parameters: int
    checkpoint_bytes: int
    judge_parameters: int = 0
    sampler: str = "transformers"

    @classmethod
    def of(cls, prepared: Prepared) -> ModelSizes | None:
        """Takes the sizes from what the check of the inputs found; None where one is missing, as
        from an earlier version.
        """
        policy, weights = prepared.num_parameters, prepared.checkpoint_bytes
        judge, sampler = prepared.judge_parameters, prepared.sampler
        if policy is None or weights is None or judge is None or sampler is None:
            return None
        return cls(policy, weights, judge, sampler)


class Warmth(NamedTuple):
    """Says whether programs stay, and why or why not, in words."""

    is_warm: bool
    reason: str


def fits_together(
    programs: Mapping[Stage, Program], room_bytes: int, *, has_overlap: bool, is_measured: bool
) -> Warmth:
    """Says whether programs fit; `room_bytes` are what all programs of the run may have at once."""
    needed = bytes_together(programs, has_overlap=has_overlap)
    text = f"the programs of all stages take up to {in_gib(needed)}, {in_gib(room_bytes)} are there"
    share = FULL_FRAC_MEASURED if is_measured else FULL_FRAC
    return Warmth(needed <= share * room_bytes, text)


def foresee(
    settings: RunSettings, sizes: ModelSizes, *, room_bytes: int, gpu_bytes: int | None
) -> Warmth:
    """Foresees, before a first round, whether programs fit. `gpu_bytes` are those of the smallest
    GPU of the run.
    """
    if shortage := gpu_shortage(settings, sampler=sizes.sampler, gpu_bytes=gpu_bytes):
        return Warmth(False, shortage)
    programs = foreseen_programs(settings, sizes)
    return fits_together(programs, room_bytes, has_overlap=settings.loop.overlap, is_measured=False)


def bytes_together(programs: Mapping[Stage, Program], *, has_overlap: bool) -> int:
    """Returns the most memory at any moment: the stages work in turn, and each keeps something
    meanwhile.

    With `loop.overlap`, sample and label work at the same time.
    """
    at_work: list[tuple[Stage, ...]] = [("sample",), ("label",), ("train",)]
    if has_overlap:
        at_work = [("sample", "label"), ("train",)]
    kept = sum(program.kept_bytes for program in programs.values())
    return max(
        kept + sum(programs[stage].peak_bytes - programs[stage].kept_bytes for stage in stages)
        for stages in at_work
    )


def bytes_apart(programs: Mapping[Stage, Program]) -> int:
    """Returns the most at any moment where each program ends with its attempt."""
    return max(program.peak_bytes for program in programs.values())


def foreseen_programs(settings: RunSettings, sizes: ModelSizes) -> dict[Stage, Program]:
    """Estimates programs by the sizes of the models alone, without activations and caches of
    transformers.

    On a GPU the host has the same models between rounds.
    """
    return {
        "sample": _sampler(sizes),
        "label": _labeller(settings, sizes),
        "train": _trainer(settings, sizes),
    }


def gpu_shortage(settings: RunSettings, *, sampler: str, gpu_bytes: int | None) -> str:
    """Says why vLLM and what the other two keep of the smallest GPU do not fit; empty where they
    do.
    """
    if sampler != "vllm" or gpu_bytes is None:
        return ""
    share = settings.sample.vllm.gpu_memory_utilization or ENGINE_SHARE
    if share * gpu_bytes + 2 * PARKED_BYTES <= gpu_bytes:
        return ""
    return (
        f"vLLM takes {in_gib(share * gpu_bytes)} of the smallest GPU's {in_gib(gpu_bytes)}, and the"
        f" other programs keep {in_gib(2 * PARKED_BYTES)}"
    )


def _sampler(sizes: ModelSizes) -> Program:
    """Estimates the sampler: a transformers engine is loaded for each round, while vLLM loads the
    next weights beside its own.
    """
    if sizes.sampler == "vllm":
        needed = VLLM_BYTES + 2 * sizes.checkpoint_bytes
        return Program(needed, needed)
    return Program(LIBRARIES_BYTES + sizes.checkpoint_bytes, LIBRARIES_BYTES)


def _labeller(settings: RunSettings, sizes: ModelSizes) -> Program:
    judge = settings.label.judge
    if not isinstance(judge, RewardModelJudge):
        return Program(FUNCTION_BYTES, FUNCTION_BYTES)
    weights = sizes.judge_parameters * MASTER_BYTES  # what transformers scores with on a CPU
    libraries = VLLM_BYTES if judge.engine == "vllm" else LIBRARIES_BYTES
    return Program(libraries + weights, libraries + weights)


def _trainer(settings: RunSettings, sizes: ModelSizes) -> Program:
    """Estimates the trainer: it keeps policy, moments and one frozen model; with adapters only the
    frozen model.
    """
    train = settings.train
    frozen = sizes.num_parameters * MASTER_BYTES
    has_reference = train.loss.kind in LOSSES_WITH_REFERENCE
    working = trainer_memory_bytes(
        settings, num_parameters=sizes.num_parameters, checkpoint_bytes=sizes.checkpoint_bytes
    )
    trained = trained_parameters(train, sizes.num_parameters) * (MASTER_BYTES + MOMENT_BYTES)
    kept = (0 if train.lora is not None else trained) + (frozen if has_reference else 0)
    peak = working * settings.launch.num_processes + frozen  # the KL needs the initial policy
    if settings.launch.num_processes > 1:
        return Program(peak + settings.launch.num_processes * LIBRARIES_BYTES, 0)
    return Program(LIBRARIES_BYTES + peak, LIBRARIES_BYTES + kept)
