"""Plans a round for an engine: what earlier attempts left, what is generated together, in what
order.

Whole groups of an earlier attempt of the same stage and round are taken over. The transformers
engine repeats whole batches, since its logits change a little with a batch's size and padding. vLLM
batches by itself and gets all that is missing at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from halos_backend.config.schema import SampleSettings
from halos_backend.errors import CorruptFileError, HalosError
from halos_backend.interpreters.engine_choice import EngineChoice
from halos_backend.records import BAD_JSON, Group, Prompt, read_rows
from halos_backend.stages.runtime import Attempt
from halos_backend.stages.sample.batches import Batch, Row, num_done_batches, plan_batches
from halos_backend.store.job import Job, read_job
from halos_backend.store.run_dir import AttemptDir

NOT_DRAWN_BY = frozenset({"python"})
NOT_DRAWN_BY_VLLM = frozenset({"replicas", "tensor_parallel_size", "gpu_memory_utilization"})
"""Names settings of [sample] and [sample.vllm] that no completion depends on, if the same engine
made it.
"""


def similar_attempts(attempt: Attempt, sampler: EngineChoice) -> list[AttemptDir]:
    """Returns earlier attempts whose rows this one would make just so.

    A finished one is not among them: it is made anew because its rows are not to be trusted.
    """
    return [
        earlier
        for earlier in attempt.earlier_attempts
        if not earlier.done.exists()
        and _is_same_job(earlier, attempt.job)
        and _is_same_sampler(earlier, sampler)
    ]


def leading_groups(earlier: Sequence[AttemptDir], expected: Sequence[Prompt]) -> list[Group]:
    """Returns the longest run of groups, from the first one on, that an earlier attempt wrote.

    `expected` are the prompts in the order in which groups are written.
    """
    found = [_leading_groups_of(attempt, expected) for attempt in earlier]
    return max(found, key=len, default=[])


def finished_groups(earlier: Sequence[AttemptDir], prompts: Sequence[Prompt]) -> dict[int, Group]:
    """Returns every group that any of them finished, by its prompt's number."""
    numbers = {prompt.prompt_id: number for number, prompt in enumerate(prompts)}
    return {
        numbers[group.prompt_id]: group
        for attempt in earlier
        for path in (attempt.early_groups, attempt.completions)
        for group in _groups_of(path)
        if group.prompt_id in numbers
    }


def _is_same_job(earlier: AttemptDir, job: Job) -> bool:
    """Says whether everything that the rows depend on is the same."""
    try:
        before = read_job(earlier.job)
    except HalosError:
        return False
    return (
        before.inputs == job.inputs
        and before.seed == job.seed
        and before.num_threads == job.num_threads
        and all(before.settings[table] == job.settings[table] for table in ("policy", "prompts"))
        and _drawing(before.settings["sample"]) == _drawing(job.settings["sample"])
        and before.settings["train"]["loss"] == job.settings["train"]["loss"]
    )


def _drawing(sample: dict[str, Any]) -> dict[str, Any]:
    drawing = {name: value for name, value in sample.items() if name not in NOT_DRAWN_BY}
    vllm = sample.get("vllm", {})
    drawing["vllm"] = {n: value for n, value in vllm.items() if n not in NOT_DRAWN_BY_VLLM}
    return drawing


def _is_same_sampler(earlier: AttemptDir, sampler: EngineChoice) -> bool:
    """Says whether the same engine sampled; versions that did not write that down had one engine
    only.
    """
    try:
        before = msgspec.json.decode(earlier.sampler.read_bytes(), type=EngineChoice)
    except (OSError, *BAD_JSON):
        return sampler.engine == "transformers"
    return (before.engine, before.version) == (sampler.engine, sampler.version)


def _leading_groups_of(earlier: AttemptDir, expected: Sequence[Prompt]) -> list[Group]:
    groups: list[Group] = []
    for group, prompt in zip(_groups_of(earlier.completions), expected, strict=False):
        if group.prompt_id != prompt.prompt_id:
            break
        groups.append(group)
    return groups


def _groups_of(path: Path) -> list[Group]:
    groups: list[Group] = []
    with suppress(CorruptFileError, OSError):  # what was read before the damage is complete
        groups.extend(read_rows(path, Group, torn_tail=True))
    return groups


@dataclass(frozen=True)
class RoundPlan:
    """Says how a round is generated.

    `order` are the numbers of the prompts in the order of their groups in the file, `reused` the
    groups that earlier attempts left, `batches` what is to be generated.
    """

    order: tuple[int, ...]
    reused: Mapping[int, Group]
    batches: tuple[Batch, ...]


def plan_round(
    sampler: EngineChoice,
    prompts: Sequence[Prompt],
    sample: SampleSettings,
    earlier: Sequence[AttemptDir],
) -> RoundPlan:
    """Plans a round; `earlier` are the attempts whose rows may be reused."""
    if sampler.engine == "vllm":
        return _at_once(prompts, sample.group_size, earlier)
    batches = plan_batches(
        [len(prompt.token_ids) for prompt in prompts],
        group_size=sample.group_size,
        batch_size=sample.batch_size,
    )
    order = tuple(index for batch in batches for index in batch.groups)
    groups = leading_groups(earlier, [prompts[index] for index in order])
    num_batches, num_groups = num_done_batches(batches, len(groups))
    reused = dict(zip(order, groups[:num_groups], strict=False))
    return RoundPlan(order, reused, batches[num_batches:])


def _at_once(
    prompts: Sequence[Prompt], group_size: int, earlier: Sequence[AttemptDir]
) -> RoundPlan:
    order = tuple(range(len(prompts)))
    reused = finished_groups(earlier, prompts)
    left = tuple(index for index in order if index not in reused)
    rows = tuple(Row(index, k) for index in left for k in range(group_size))
    return RoundPlan(order, reused, (Batch(rows, left),) if rows else ())
