"""Plans a round for an engine: what is taken over, what is generated together, what order is kept.

The transformers engine repeats whole batches, since its logits change a little with a batch's size
and padding. vLLM batches by itself and gets all that is missing at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from halos_backend.config.schema import SampleSettings
from halos_backend.interpreters.choice import EngineChoice
from halos_backend.records import Group, Prompt
from halos_backend.stages.sample.batches import Batch, Row, num_done_batches, plan_batches
from halos_backend.stages.sample.takeover import finished_groups, leading_groups
from halos_backend.store.run_dir import AttemptDir


@dataclass(frozen=True)
class RoundPlan:
    """`order` are the numbers of the prompts in the order of their groups in the file, `reused` the
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
    """`earlier` are the attempts whose rows may be reused."""
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
