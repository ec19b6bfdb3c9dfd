"""Measures how far the policy is from the one the run began with: KL on some of the round's
completions.

At each token of a completion the two distributions of the next token are compared, over the whole
vocabulary and at temperature 1, and the KLs are added up: the chain rule with its inner expectation
taken exactly. Only which completions there are is left to chance. They are sampled as the run
samples (temperature, top-p), so it is KL(policy || initial) itself only at temperature 1 and top-p
1; otherwise it is that of the two policies along what the run sees of them.

The sample is of all completions of the round, not of those that became feedback: selection by
reward would bias it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from torch import Tensor

from halos_backend.records import Group, read_rows
from halos_backend.stages.train.collate import TokenBatch
from halos_backend.stages.train.examples import TokenSequence
from halos_backend.stages.train.logps import token_kls
from halos_backend.stages.train.ranks import TrainRanks
from halos_backend.stages.train.reference import FrozenModel, per_token
from halos_backend.store.standard_error import pulls_of, stderr_of


@dataclass(frozen=True)
class KlInitial:
    """Is KL(policy at the start of the round || initial policy) per completion, and its error."""

    mean: float
    stderr: float | None

    def figures(self) -> dict[str, float]:
        """Returns figures by the names they have everywhere; of one prompt there is no error."""
        error = {} if self.stderr is None else {"kl_initial_stderr": self.stderr}
        return {"kl_initial": self.mean, **error}


SAME_POLICY = KlInitial(0.0, 0.0)


def sample_completions(
    completions: Path, *, count: int, seed: int, sampling_prefix: tuple[int, ...] = ()
) -> list[TokenSequence]:
    """Returns `count` of the round's completions, or all there are; the same ones for the same
    seed.

    `sampling_prefix` is what sampling put after every prompt, as csft does.
    """
    sequences = [
        TokenSequence((*group.prompt_token_ids, *sampling_prefix), completion.token_ids)
        for group in read_rows(completions, Group)
        for completion in group.completions
    ]
    return random.Random(seed).sample(sequences, min(count, len(sequences)))


def estimate_kl(
    policy: FrozenModel,
    initial: FrozenModel,
    sample: Sequence[TokenSequence],
    ranks: TrainRanks,
    *,
    pad_token_id: int,
    max_tokens: int,
    on_progress: Callable[[int, int], None],
) -> KlInitial | None:
    """Returns the mean of the tokens' KL summed over each completion, and its standard error by
    prompts.

    None without completions. Every rank must call it.
    """
    if not sample:
        return None

    def score(batch: TokenBatch) -> Tensor:
        with ranks.autocast():
            return token_kls(
                policy.model,
                initial.model,
                batch,
                policy_is_plain=policy.is_plain,
                initial_is_plain=initial.is_plain,
            )

    table = per_token(
        score,
        [policy, initial],
        sample,
        ranks,
        pad_token_id=pad_token_id,
        max_tokens=max_tokens,
        on_progress=on_progress,
    )
    values = [table.of(sequence).double().sum().item() for sequence in sample]
    by_prompt = ((str(s.prompt), [value]) for s, value in zip(sample, values, strict=True))
    return KlInitial(fmean(values), stderr_of(pulls_of(by_prompt)))
