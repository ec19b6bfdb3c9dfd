"""How far the policy is from the one the run began with: KL on a sample of the round's completions.

The sample is of all completions of the round, not of those that became feedback: selection by
reward would bias it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from halos_backend.records import Group, read_rows
from halos_backend.stages.train.examples import TokenSequence
from halos_backend.stages.train.losses.kl import kl_k3
from halos_backend.stages.train.reference import LogpsTable


@dataclass(frozen=True)
class KlInitial:
    """KL(policy at the start of the round || initial policy) per completion, and its error."""

    mean: float
    stderr: float | None


SAME_POLICY = KlInitial(0.0, 0.0)


def sample_completions(
    completions: Path, *, count: int, seed: int, sampling_prefix: tuple[int, ...] = ()
) -> list[TokenSequence]:
    """`count` of the round's completions, or all there are; the same ones for the same seed.

    `sampling_prefix` is what sampling put after every prompt, as csft does.
    """
    sequences = [
        TokenSequence((*group.prompt_token_ids, *sampling_prefix), completion.token_ids)
        for group in read_rows(completions, Group)
        for completion in group.completions
    ]
    return random.Random(seed).sample(sequences, min(count, len(sequences)))


def estimate_kl(
    sequences: Sequence[TokenSequence], *, policy: LogpsTable, initial: LogpsTable
) -> KlInitial | None:
    """Mean of k3 summed over each completion, and its standard error; None without completions."""
    if not sequences:
        return None
    values = torch.stack([_kl_of(sequence, policy, initial) for sequence in sequences])
    if len(values) == 1:
        return KlInitial(values.item(), None)
    return KlInitial(values.mean().item(), (values.std() / len(values) ** 0.5).item())


def _kl_of(sequence: TokenSequence, policy: LogpsTable, initial: LogpsTable) -> torch.Tensor:
    """In double precision: k3 of nearly equal policies is a difference of small numbers."""
    ours, theirs = policy.of(sequence).double(), initial.of(sequence).double()
    return kl_k3(
        policy_token_logps=ours.unsqueeze(0),
        reference_token_logps=theirs.unsqueeze(0),
        completion_mask=torch.ones(1, len(ours), dtype=torch.bool),
    ).squeeze(0)
