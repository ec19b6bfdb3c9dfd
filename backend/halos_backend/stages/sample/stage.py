"""The course of the sample stage: the round's prompts in, whole groups out as they are finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from halos_backend import clock
from halos_backend.errors import OutOfMemoryError, StageError
from halos_backend.records import Completion, Group, Prompt, encode_row, read_rows
from halos_backend.stages.chat import sampling_prefix
from halos_backend.stages.runtime import Attempt, StageResult
from halos_backend.stages.sample.batches import Batch, Row, num_done_batches, plan_batches
from halos_backend.stages.sample.engine import Engine, Generated, Request
from halos_backend.stages.sample.summary import Tally
from halos_backend.stages.sample.takeover import reusable_groups
from halos_backend.stages.sample.transformers_engine import load_engine
from halos_backend.store.job import SampleInputs
from halos_backend.store.prompt_order import derived_seed, prompt_rows


def sample_round(attempt: Attempt) -> StageResult:
    """Write `completions.jsonl`: a group per prompt, in the order of the batch plan."""
    started = clock.monotonic()
    inputs = attempt.job.inputs
    if not isinstance(inputs, SampleInputs):
        raise StageError(f"{attempt.directory.job}: its inputs are not those of a sample stage")
    torch.set_num_threads(attempt.job.num_threads)
    settings = attempt.settings.sample
    prompts = round_prompts(inputs, seed=attempt.job.seed)
    batches = plan_batches(
        [len(prompt.token_ids) for prompt in prompts],
        group_size=settings.group_size,
        batch_size=settings.batch_size,
    )
    order = [prompts[index] for batch in batches for index in batch.groups]
    earlier = reusable_groups(attempt, order)
    num_batches, num_groups = num_done_batches(batches, len(earlier))
    tally = Tally(num_reused=num_groups * settings.group_size)

    with attempt.directory.completions.open("wb") as file:
        for group in earlier[:num_groups]:
            file.write(encode_row(group))
            tally.add(group)
        file.flush()
        for group in _generate(attempt, inputs, prompts, batches[num_batches:], tally):
            file.write(encode_row(group))
            file.flush()
            tally.add(group)
    summary = tally.summary(elapsed_s=clock.monotonic() - started)
    return StageResult((attempt.directory.completions,), summary)


def round_prompts(inputs: SampleInputs, *, seed: int) -> list[Prompt]:
    """The prompts of the round, in the run's order."""
    prompts = list(read_rows(Path(inputs.prompts), Prompt))
    rows = prompt_rows(
        seed=seed, num_prompts=len(prompts), cursor=inputs.cursor, count=inputs.num_prompts
    )
    return [prompts[row] for row in rows]


def _generate(
    attempt: Attempt,
    inputs: SampleInputs,
    prompts: list[Prompt],
    batches: tuple[Batch, ...],
    tally: Tally,
) -> Iterator[Group]:
    """Groups as they are complete."""
    if not batches:
        return
    attempt.phase("loading policy")
    engine = load_engine(inputs.policy, attempt.settings)
    prefix = sampling_prefix(engine.tokenizer, attempt.settings.train.loss)
    attempt.phase("generating")
    total = len(prompts) * attempt.settings.sample.group_size
    done = tally.num_reused
    attempt.progress(done, total, "completions")
    tally.start()

    def report(num_finished: int) -> None:
        nonlocal done
        done += num_finished
        attempt.progress(done, total, "completions")

    made: dict[int, list[Completion]] = {}
    for batch in batches:
        requests = [_request(attempt, prompts[row.prompt_index], row, prefix) for row in batch.rows]
        generated = _generate_batch(engine, requests, report)
        for row, result in zip(batch.rows, generated, strict=True):
            prompt_id = prompts[row.prompt_index].prompt_id
            made.setdefault(row.prompt_index, []).append(_completion(prompt_id, row, result))
        for index in batch.groups:
            yield _group(prompts[index], made.pop(index), inputs.policy_version)
    tally.stop()


def _generate_batch(
    engine: Engine, requests: list[Request], report: Callable[[int], None]
) -> list[Generated]:
    """In the order of `requests`; `report` hears how many more are finished, often of none."""
    made: dict[int, Generated] = {}
    try:
        for position, generated in engine.generate(requests, stepped=lambda: report(0)):
            made[position] = generated
            report(1)
        return [made[position] for position in range(len(requests))]
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"out of GPU memory with {len(requests)} completions at a time: lower"
            " sample.batch_size or sample.max_new_tokens"
        ) from error


def _request(attempt: Attempt, prompt: Prompt, row: Row, prefix: tuple[int, ...]) -> Request:
    job = attempt.job
    seed = derived_seed(job.seed, job.round, prompt.prompt_id, row.k)
    return Request((*prompt.token_ids, *prefix), seed)


def _completion(prompt_id: str, row: Row, result: Generated) -> Completion:
    return Completion(
        completion_id=f"{prompt_id}.{row.k}",
        text=result.text,
        token_ids=result.token_ids,
        finish_reason=result.finish_reason,
    )


def _group(prompt: Prompt, completions: list[Completion], policy_version: int) -> Group:
    return Group(
        prompt_id=prompt.prompt_id,
        prompt=prompt.prompt,
        prompt_token_ids=prompt.token_ids,
        policy_version=policy_version,
        completions=tuple(completions),
        columns=prompt.columns,
    )
