"""Scores conversations in one row without padding, what those of a prompt begin with only once.

This is for classifiers whose logits are `score` of the decoder's hidden state at the last token,
which is asked of the model itself: see `packs_rewards`. Which sequences share a forward is planned
by pure functions of all their lengths: a reward depends on its batch's shape by about 1e-7
(PITFALLS), so a later attempt repeats the plan and redoes whole batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from halos_backend.stages.packing import is_packed, is_same, pack, pack_row, packed_hidden_states

OWN_ATTENTION = "sdpa"
"""Names the attention that a model that packs had before."""
Parts = tuple[tuple[int, ...], tuple[int, ...]]
"""Holds a conversation's token ids: what it may share, and the rest."""


def packs_rewards(model: Any, device: torch.device, pad_id: int | None) -> bool:
    """Lets the model take packed rows, on that device, if its logits are the same for them.

    It must be there. `pad_id` is the model's own.
    """
    if not isinstance(getattr(model, "score", None), nn.Linear):
        return False
    pack(model, device)
    if not is_packed(model):
        return False
    a, b = [token for token in range(3) if token != pad_id][:2]
    probe: list[Parts] = [((a, b), (b,)), ((b,), (a, b)), ((a, b), (a, a))]
    with torch.inference_mode():
        packed = packed_logits(model, probe, pad_id)
        alone = [model(input_ids=torch.tensor([[*x, *y]], device=device)) for x, y in probe]
    logits = torch.cat([output.logits for output in alone])
    has_other_score = any("score" in output for output in alone)
    if has_other_score or packed.shape != logits.shape or not is_same(packed, logits):
        model.set_attn_implementation(OWN_ATTENTION)
        return False
    return True


def packed_logits(model: Any, sequences: Sequence[Parts], pad_id: int | None) -> Tensor:
    """Returns (sequences, labels), at each sequence's last token that is not `pad_id`.

    That is where transformers reads them: a model may be padded with its end token.
    """
    row = pack_row(sequences, model.device)
    places = []
    for span, (beginning, rest) in zip(row.spans, sequences, strict=True):
        ids = (*beginning, *rest)
        last = max((place for place, token in enumerate(ids) if token != pad_id), default=0)
        places.append(span.places[last])
    hidden = packed_hidden_states(model, row)[0, places]
    logits: Tensor = model.score(hidden)
    return logits


def shared_beginnings(
    sequences: Mapping[int, Sequence[int]], prompts: Mapping[int, str]
) -> dict[int, int]:
    """Counts how many first tokens of each all that are about the same prompt have; never a whole
    one.
    """
    about: dict[str, list[int]] = {}
    for index in sequences:
        about.setdefault(prompts[index], []).append(index)
    shared: dict[int, int] = {}
    for indices in about.values():
        least, *_, most = sorted(tuple(sequences[index]) for index in (*indices, indices[0]))
        common = next(
            (place for place, (x, y) in enumerate(zip(least, most, strict=False)) if x != y),
            min(len(least), len(most)),
        )
        length = min(common, min(len(sequences[index]) for index in indices) - 1)
        shared |= dict.fromkeys(indices, length)
    return shared


def plan_packed(
    sequences: Mapping[int, Sequence[int]], beginnings: Mapping[int, int], batch_tokens: int
) -> list[tuple[int, ...]]:
    """Returns indices in their order, in batches of at most `batch_tokens`, each beginning counted
    once.

    A sequence longer than that has a batch to itself.
    """
    batches: list[list[int]] = []
    present: set[tuple[int, ...]] = set()
    taken = 0
    for index, ids in sequences.items():
        beginning = tuple(ids[: beginnings[index]])
        rest = len(ids) - len(beginning)
        added = rest if beginning in present else len(ids)
        if not batches or taken + added > batch_tokens:
            batches.append([])
            present, taken, added = set(), 0, len(ids)
        batches[-1].append(index)
        present.add(beginning)
        taken += added
    return [tuple(batch) for batch in batches]


def plan_batches(lengths: Sequence[int], batch_tokens: int) -> list[tuple[int, ...]]:
    """Returns positions in `lengths`, longest first, in batches of at most `batch_tokens` padded
    tokens.

    A sequence longer than that has a batch to itself. Longest first shows a lack of memory at once.
    """
    order = _longest_first(lengths)
    batches: list[tuple[int, ...]] = []
    batch: list[int] = []
    for index in order:
        if batch and lengths[batch[0]] * (len(batch) + 1) > batch_tokens:
            batches.append(tuple(batch))
            batch = []
        batch.append(index)
    if batch:
        batches.append(tuple(batch))
    return batches


def plan_waves(lengths: Sequence[int], batch_tokens: int, most: int) -> list[tuple[int, ...]]:
    """Plans the same for an engine that pads nothing, and takes at most so many sequences at a
    time.
    """
    waves: list[tuple[int, ...]] = []
    wave: list[int] = []
    for index in _longest_first(lengths):
        num_tokens = sum(lengths[other] for other in wave) + lengths[index]
        if wave and (num_tokens > batch_tokens or len(wave) == most):
            waves.append(tuple(wave))
            wave = []
        wave.append(index)
    if wave:
        waves.append(tuple(wave))
    return waves


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
