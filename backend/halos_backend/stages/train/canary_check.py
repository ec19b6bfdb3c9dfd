"""Compares the sampler's policy with the one that is about to be trained, by log-probabilities.

A sampler that went on with other weights gives samples that look well and teach the wrong thing.
What the two may differ by is measured: the same policy, computed in the checkpoint's dtype.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from halos_backend.config.losses import BradleyTerry
from halos_backend.errors import OtherPolicyError
from halos_backend.records import CanaryRow, read_rows
from halos_backend.stages.runtime import Attempt
from halos_backend.stages.train.examples import TokenSequence
from halos_backend.stages.train.ranks import LOW_DTYPES, TrainRanks
from halos_backend.stages.train.reference import LogpsTable, precompute
from halos_backend.stages.train.trainee import Trainee
from halos_backend.store.job import TrainInputs
from halos_backend.store.run_dir import AttemptDir

FACTOR = 3.0
"""Is how much more than the rounding measured here the policies may differ.

Two computations in a low dtype differ from each other by some 1.4 times what each differs from fp32
(measured with SmolLM2-135M: 0.042 and 0.030 in bfloat16).
"""
FLOORS = {"cpu": 1e-4, "cuda": 5e-3}
"""Is the mean difference that fp32 explains.

It is 1e-6 to 1e-5 on a CPU; TensorFloat-32, which attention kernels on a GPU take, has float16's
precision, which gave 0.004.
"""


class CanaryFigures(NamedTuple):
    """Says how far the log-probabilities of the sampler's tokens are from the trainer's, and how
    far they may be.
    """

    num_tokens: int
    diff_mean: float
    diff_max: float
    diff_limit: float


def check_canary(
    attempt: Attempt, inputs: TrainInputs, ranks: TrainRanks, trainee: Trainee, pad_token_id: int
) -> CanaryFigures | None:
    """Returns what the comparison found; None where there is none to make.

    Every engine leaves a canary, so that one that is missing or empty is worth a warning. Every
    rank must call it, before the first step. Raises OtherPolicyError where the sampler's policy is
    another one.
    """
    if isinstance(attempt.settings.train.loss, BradleyTerry):
        return None
    canary = AttemptDir(Path(inputs.completions).parent).canary
    rows = _rows(canary)
    if not rows:
        attempt.warn(
            f"whether round {attempt.job.round} was sampled by the policy to be trained cannot be"
            f" told: {canary} has no log-probabilities of the sampler's"
        )
        return None
    attempt.phase("comparing with the sampler")
    sequences = [TokenSequence(row.prompt_token_ids, row.token_ids) for row in rows]
    theirs = torch.tensor([value for row in rows for value in row.logps])
    ours = _logps(attempt, sequences, ranks, trainee, pad_token_id)
    limit = FLOORS.get(ranks.device.type, FLOORS["cuda"])
    if trainee.dtype in LOW_DTYPES:
        limit += FACTOR * _rounding(attempt, sequences, ranks, trainee, pad_token_id)
    differences = (theirs - ours).abs()
    mean = float(differences.mean())
    if not mean <= limit:
        raise OtherPolicyError(_why_other(attempt, canary.parent, mean, limit, trainee.dtype))
    return CanaryFigures(
        num_tokens=len(theirs), diff_mean=mean, diff_max=float(differences.max()), diff_limit=limit
    )


def _rows(canary: Path) -> list[CanaryRow]:
    if not canary.exists():
        return []
    return [row for row in read_rows(canary, CanaryRow) if row.token_ids and row.prompt_token_ids]


def _rounding(
    attempt: Attempt,
    sequences: list[TokenSequence],
    ranks: TrainRanks,
    trainee: Trainee,
    pad_token_id: int,
) -> float:
    """Measures how far the log-probabilities move, on average, when they are computed in the low
    dtype.
    """
    kind = ranks.device.type
    with torch.autocast(kind, enabled=False):
        exact = _logps(attempt, sequences, ranks, trainee, pad_token_id, as_trained=False)
    with torch.autocast(kind, dtype=trainee.dtype):
        rounded = _logps(attempt, sequences, ranks, trainee, pad_token_id, as_trained=False)
    return float((exact - rounded).abs().mean())


def _logps(
    attempt: Attempt,
    sequences: list[TokenSequence],
    ranks: TrainRanks,
    trainee: Trainee,
    pad_token_id: int,
    *,
    as_trained: bool = True,
) -> Tensor:
    """Returns the log-probabilities of all tokens of the sequences, in order, under the policy that
    is trained.

    `as_trained` computes in the precision of training, otherwise in that of the context.
    """
    table: LogpsTable = precompute(
        trainee.model,
        sequences,
        ranks,
        pad_token_id=pad_token_id,
        max_tokens=attempt.settings.train.microbatch_tokens,
        is_plain=trainee.is_plain,
        on_progress=lambda _done, _total: None,
        autocasts=as_trained,
    )
    return torch.cat([table.of(sequence) for sequence in sequences])


def _why_other(
    attempt: Attempt, sample: Path, mean: float, limit: float, dtype: torch.dtype
) -> str:
    name, job = str(dtype).removeprefix("torch."), attempt.job
    return (
        f"the policy that sampled round {job.round} is not the one to be trained: their"
        f" log-probabilities of the same tokens differ by {mean:.2g} on average, of which {name}"
        f" explains {limit:.2g}. Training on another policy's samples would go wrong quietly."
        f" {AttemptDir(sample).sampler} says what sampled. Where that engine had stayed from an"
        " earlier round, a fresh one now samples the round anew by itself; otherwise it takes:"
        f" halos-tui retry {job.run}, and before it, to sample with the trainer's own code:"
        f" halos-tui set {job.run} sample.engine=transformers"
    )
