"""Estimates what a run needs: disk, the trainer's memory, and steps; measures models by their
files.

`doctor` judges a machine by it, `supervisor.guards` the disk before each round. Parameters are
counted from the headers of the weights, which are not read. The caller says which file is where, in
a directory or from the hub.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from halos_backend.config.api_judge import ApiJudge
from halos_backend.config.losses import CSFT, GRPO, KTO, SFT, wants_sampler_logps
from halos_backend.config.schema import PairwiseFeedback, RunSettings, TrainSettings
from halos_backend.errors import UsageError
from halos_backend.records import BAD_JSON

MASTER_BYTES = 4
MOMENT_BYTES = 8
GRADIENT_BYTES = 4
"""Counts the float32 bytes per trained parameter: master weights, Adam's two moments, gradients."""

LORA_SHARE_PER_RANK = 0.004
"""Is an upper bound of trained parameters over all parameters, per unit of rank.

It is for models from 100M parameters (135M: 0.0023, 8B: 0.0003).
"""

ROW_BYTES_PER_TOKEN = 33
"""Counts the bytes of a completion's token in completions, scores and feedback: text and token id
in each.
"""

LOGP_BYTES_PER_TOKEN = 30
"""Counts those of its log-probability, where the loss takes the sampler's."""

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
BYTES_OF_PARAMETER = {"float32": 4, "bfloat16": 2, "float16": 2}


def trained_parameters(train: TrainSettings, num_parameters: int) -> int:
    """Counts the parameters that get gradients: all, or at most so many with adapters."""
    if train.lora is None:
        return num_parameters
    return int(num_parameters * min(1.0, LORA_SHARE_PER_RANK * train.lora.r))


def disk_needed_bytes(
    settings: RunSettings,
    *,
    num_parameters: int,
    checkpoint_bytes: int,
    num_prompts: int | None = None,
) -> int:
    """Returns the most bytes a run has on disk at once: checkpoints, trainer states, and rows of
    text.

    While a round ends there are three trainer states: the round before's, this one's, and the one
    of mid-round.
    `num_prompts` is how many the source has; without it and without loop.num_prompts the rows are
    left out.
    """
    loop, train = settings.loop, settings.train
    checkpoints = loop.keep_checkpoints + int(loop.keep_best) + 1
    states = 2 * trainer_state_bytes(
        train, num_parameters=num_parameters, checkpoint_bytes=checkpoint_bytes
    ) + partial_state_bytes(train, num_parameters=num_parameters)
    prompts = total_prompts(settings, num_prompts) or 0
    return checkpoints * checkpoint_bytes + states + rows_bytes(settings, num_prompts=prompts)


def round_needed_bytes(
    settings: RunSettings, *, num_parameters: int, checkpoint_bytes: int, last_round_bytes: int = 0
) -> int:
    """Returns the most bytes that a round has on disk at once of its own, before what it replaces
    is deleted.

    The last mid-round state is there until the round's checkpoint is proven. Two of them, while one
    replaces the other, are no more than that one and the results. `last_round_bytes` are what the
    round before left: no less is foreseen.
    """
    train = settings.train
    state = trainer_state_bytes(
        train, num_parameters=num_parameters, checkpoint_bytes=checkpoint_bytes
    )
    partial = partial_state_bytes(train, num_parameters=num_parameters)
    rows = rows_bytes(settings, num_prompts=settings.loop.prompts_per_round)
    left = max(rows + checkpoint_bytes + state, last_round_bytes)
    return left + (partial if max_steps(settings) > train.save_every_steps else 0)


def trainer_state_bytes(train: TrainSettings, *, num_parameters: int, checkpoint_bytes: int) -> int:
    """Counts the bytes that a round leaves to the next one's trainer."""
    # A checkpoint in float32 is its own master copy.
    master = MASTER_BYTES if checkpoint_bytes < MASTER_BYTES * num_parameters else 0
    return trained_parameters(train, num_parameters) * (MOMENT_BYTES + master)


def partial_state_bytes(train: TrainSettings, *, num_parameters: int) -> int:
    """Counts the bytes of one mid-round state, which always has master weights."""
    return trained_parameters(train, num_parameters) * (MOMENT_BYTES + MASTER_BYTES)


def rows_bytes(settings: RunSettings, *, num_prompts: int) -> int:
    """Counts the bytes of completions, scores and feedback at most: every completion as long as it
    may be.
    """
    tokens = num_prompts * settings.sample.group_size * settings.sample.max_new_tokens
    logps = LOGP_BYTES_PER_TOKEN if wants_sampler_logps(settings.train.loss) else 0
    return tokens * (ROW_BYTES_PER_TOKEN + logps)


def trainer_memory_bytes(
    settings: RunSettings, *, num_parameters: int, checkpoint_bytes: int
) -> int:
    """Returns the least bytes of one training process: weights, gradients, Adam. Activations come
    on top.
    """
    train = settings.train
    trained = trained_parameters(train, num_parameters)
    needed = trained * (MASTER_BYTES + MOMENT_BYTES + GRADIENT_BYTES)
    if train.lora is not None:
        needed += checkpoint_bytes
    if getattr(train.loss, "humanline", None) is not None:
        needed += checkpoint_bytes
    # parts are not quite equal, and one layer at a time is whole
    return needed // settings.launch.num_processes if settings.launch.sharding != "none" else needed


def total_prompts(settings: RunSettings, num_prompts: int | None) -> int | None:
    """Counts the prompts over the whole run at most; None where nothing bounds them."""
    loop = settings.loop
    bounds = [
        None if num_prompts is None else num_prompts * loop.num_epochs,
        loop.num_prompts,
        None if loop.num_rounds is None else loop.num_rounds * loop.prompts_per_round,
    ]
    return min((bound for bound in bounds if bound is not None), default=None)


def examples_per_round(settings: RunSettings) -> int:
    """Returns the most examples of one round, in what `train.batch_size` counts (see
    `example_noun`).
    """
    feedback, size = settings.label.feedback, settings.sample.group_size
    per_prompt = size
    if isinstance(feedback, PairwiseFeedback):
        pairs = {"random": size // 2, "judged": _num_matches(settings)}.get(feedback.pairing, 1)
        per_prompt = 2 * pairs if settings.train.loss.kind in ("kto", "csft") else pairs
    return settings.loop.prompts_per_round * per_prompt


def _num_matches(settings: RunSettings) -> int:
    """Returns the matches of a group, where the judge compares."""
    size, judge = settings.sample.group_size, settings.label.judge
    if not isinstance(judge, ApiJudge) or judge.compare is None or judge.compare.opponents == "one":
        return size - 1
    return min(size * (size - 1) // 2, judge.compare.max_matches or size * size)


def max_steps(settings: RunSettings) -> int:
    """Returns the most optimizer steps of one round."""
    train = settings.train
    return -(-examples_per_round(settings) * train.num_epochs // train.batch_size)


def example_noun(settings: RunSettings) -> str:
    """Names what `train.batch_size` counts: a loss of one completion at a time takes
    pairs apart.
    """
    return "completions" if isinstance(settings.train.loss, KTO | SFT | CSFT | GRPO) else "pairs"


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


class _Tensor(msgspec.Struct):
    """Describes a tensor as a safetensors header does."""

    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    data_offsets: tuple[int, int]


class ModelSize(NamedTuple):
    """Holds the size of a model; `checkpoint_bytes` are those of the weights, in the dtype of the
    policy.
    """

    num_parameters: int
    checkpoint_bytes: int


def model_size(shards: Sequence[Path], dtype: str) -> ModelSize:
    """Measures a model. Raises UsageError for a file that is no safetensors file."""
    num_parameters = sum(_num_parameters(shard) for shard in shards)
    return ModelSize(num_parameters, num_parameters * BYTES_OF_PARAMETER.get(dtype, 4))


def find_weights(find: Callable[[str], Path | None], named: str) -> list[Path]:
    """Returns the safetensors files of a model; `find` gives a file of it, None where there is
    none.

    `named` names the model in messages. Raises UsageError when one is missing.
    """
    whole = find(WEIGHTS)
    if whole is not None:
        return [whole]
    index = find(INDEX)
    names = [WEIGHTS] if index is None else _shard_names(index)
    shards = [find(name) for name in names]
    missing = [name for name, shard in zip(names, shards, strict=True) if shard is None]
    if missing:
        raise UsageError(
            f"{named}: there are no weights in safetensors ({missing[0]} is missing)",
            fix="save the model with save_pretrained, which writes them",
        )
    return [shard for shard in shards if shard is not None]


def file_in(folder: Path, name: str) -> Path | None:
    """Returns a file of a model's directory."""
    file = folder / name
    return file if file.is_file() else None


def _shard_names(index: Path) -> Sequence[str]:
    try:
        return sorted(set(msgspec.json.decode(index.read_bytes(), type=_Index).weight_map.values()))
    except BAD_JSON as error:
        raise UsageError(
            f"{index} is no index of weights, or cut short", fix="copy it again"
        ) from error


def _num_parameters(shard: Path) -> int:
    """Counts from the header: 8 bytes of its length, then JSON; the tensors' bytes follow."""
    size = shard.stat().st_size
    with shard.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if 8 + length <= size else b""
    try:
        entries = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        entries.pop("__metadata__", None)
        tensors = [msgspec.json.decode(entry, type=_Tensor) for entry in entries.values()]
    except BAD_JSON:
        tensors = None
    if tensors is not None:
        end = 8 + length + max((tensor.data_offsets[1] for tensor in tensors), default=0)
        if end <= size:
            return sum(math.prod(tensor.shape) for tensor in tensors)
    raise UsageError(f"{shard} is no safetensors file, or it was cut short", fix="copy it again")
