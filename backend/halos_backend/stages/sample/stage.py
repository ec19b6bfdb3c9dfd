"""Owns the course of the sample stage: the round's prompts in, whole groups out as they are
finished.

It writes a canary too: for some completions, the log-probabilities that the sampler gave their
tokens. The train stage compares them with the policy that it is about to train.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import torch

from halos_backend import atomic, clock
from halos_backend.config.losses import wants_sampler_logps
from halos_backend.errors import CorruptFileError, OutOfMemoryError, StageError
from halos_backend.interpreters.engine_choice import EngineChoice
from halos_backend.records import CanaryRow, Completion, Group, Prompt, encode_row, read_rows
from halos_backend.stages.chat import sampling_prefix
from halos_backend.stages.runtime import Attempt, StageResult
from halos_backend.stages.sample.batches import Batch, Row
from halos_backend.stages.sample.engine import Engine, Generated, Request
from halos_backend.stages.sample.engine_cache import EngineCache
from halos_backend.stages.sample.group_writer import GroupWriter, Tally
from halos_backend.stages.sample.resume import RoundPlan, plan_round, similar_attempts
from halos_backend.stages.sample.sampling import own_temperature
from halos_backend.stages.vllm.choose import choose_sampler
from halos_backend.store.job import SampleInputs
from halos_backend.store.prompt_order import derived_seed, prompt_rows
from halos_backend.store.run_dir import AttemptDir

NUM_COMPLETIONS = 2
NUM_TOKENS = 32
"""Is how many tokens of each completion count, from its beginning."""


def sample_round(attempt: Attempt, cache: EngineCache | None = None) -> StageResult:
    """Writes `completions.jsonl`: a group per prompt, in the order of the round's plan.

    `cache` is for a process that stays.
    """
    started = clock.monotonic()
    inputs = attempt.job.inputs
    if not isinstance(inputs, SampleInputs):
        raise StageError(f"{attempt.directory.job}: its inputs are not those of a sample stage")
    torch.set_num_threads(attempt.job.num_threads)
    attempt.phase("starting an engine")
    sampler = choose_sampler(attempt.settings, inputs.policy)
    atomic.write_bytes(
        attempt.directory.sampler, msgspec.json.encode(sampler) + b"\n", durable=False
    )
    prompts = round_prompts(inputs, seed=attempt.job.seed)
    earlier = similar_attempts(attempt, sampler)
    plan = plan_round(sampler, prompts, attempt.settings.sample, earlier)
    num_reused = len(plan.reused) * attempt.settings.sample.group_size
    tally = Tally(num_reused=num_reused)
    ids = {c.completion_id for group in plan.reused.values() for c in group.completions}
    canary = Canary(attempt.directory, earlier, ids)

    with GroupWriter(attempt.directory, plan.order, tally.add) as writer:
        for index, group in plan.reused.items():
            writer.add(index, group)
        if plan.batches:
            generating = _Generating(attempt, inputs, prompts, canary, tally)
            for index, group in generating.groups(sampler, plan, cache):
                writer.add(index, group)
    summary = tally.summary(
        elapsed_s=clock.monotonic() - started,
        engine=f"{sampler.engine} {sampler.version}",
        engine_reason=sampler.why,
    )
    return StageResult((attempt.directory.completions, canary.path), summary)


def round_prompts(inputs: SampleInputs, *, seed: int) -> list[Prompt]:
    """Returns the prompts of the round, in the run's order."""
    prompts = list(read_rows(Path(inputs.prompts), Prompt))
    rows = prompt_rows(
        seed=seed, num_prompts=len(prompts), cursor=inputs.cursor, count=inputs.num_prompts
    )
    return [prompts[row] for row in rows]


@dataclass
class _Generating:
    """Makes the groups of a plan, each as soon as its last completion is there."""

    attempt: Attempt
    inputs: SampleInputs
    prompts: list[Prompt]
    canary: Canary
    tally: Tally
    _prefix: tuple[int, ...] = ()
    _made: dict[int, dict[int, Completion]] = field(default_factory=dict)

    def groups(
        self, sampler: EngineChoice, plan: RoundPlan, cache: EngineCache | None
    ) -> Iterator[tuple[int, Group]]:
        """Yields (number of the prompt, its group), in the order in which they are finished."""
        attempt = self.attempt
        attempt.phase(f"loading policy ({sampler.engine} {sampler.version})")
        keeper = cache or EngineCache()
        engine = keeper.get(sampler, attempt, self.inputs)
        self._prefix = sampling_prefix(engine.tokenizer, attempt.settings.train.loss)
        attempt.phase("generating")
        try:
            self.tally.start()
            report = self._report()
            report(0)
            for batch in plan.batches:
                yield from self._batch(engine, batch, report)
            self.tally.stop()
        finally:
            if cache is None:
                keeper.close()

    def _batch(
        self, engine: Engine, batch: Batch, report: Callable[[int], None]
    ) -> Iterator[tuple[int, Group]]:
        canaries = {row for row in batch.rows if self.canary.wants(row)}
        requests = [self._request(row, is_canary=row in canaries) for row in batch.rows]
        try:
            for position, made in engine.generate(requests, stepped=lambda: report(0)):
                report(1)
                row = batch.rows[position]
                completion = self._completion(row, made)
                if row in canaries:
                    self.canary.add(completion.completion_id, requests[position], made)
                group = self._made.setdefault(row.prompt_index, {})
                group[row.k] = completion
                if len(group) == self.attempt.settings.sample.group_size:
                    yield row.prompt_index, self._group(row.prompt_index)
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"out of GPU memory with {len(requests)} completions at a time: lower"
                " sample.batch_size or sample.max_new_tokens"
            ) from error

    def _report(self) -> Callable[[int], None]:
        """Returns what counts the completions still to come; it is called with the newly finished
        ones, often none.
        """
        total = len(self.prompts) * self.attempt.settings.sample.group_size
        done = self.tally.num_reused

        def report(num_finished: int) -> None:
            nonlocal done
            done += num_finished
            self.attempt.progress(done, total, "completions")

        return report

    def _request(self, row: Row, *, is_canary: bool) -> Request:
        job, prompt = self.attempt.job, self.prompts[row.prompt_index]
        seed = derived_seed(job.seed, job.round, prompt.prompt_id, row.k)
        return Request(
            (*prompt.token_ids, *self._prefix),
            seed,
            is_canary or self._keeps_logps,
            own_temperature(self.attempt.settings.sample, row.k),
        )

    def _completion(self, row: Row, result: Generated) -> Completion:
        return Completion(
            completion_id=f"{self.prompts[row.prompt_index].prompt_id}.{row.k}",
            text=result.text,
            token_ids=result.token_ids,
            finish_reason=result.finish_reason,
            temperature=own_temperature(self.attempt.settings.sample, row.k),
            logps=tuple(round(logp, 6) for logp in result.logps) if self._keeps_logps else (),
        )

    @property
    def _keeps_logps(self) -> bool:
        return wants_sampler_logps(self.attempt.settings.train.loss)

    def _group(self, index: int) -> Group:
        prompt, made = self.prompts[index], self._made.pop(index)
        return Group(
            prompt_id=prompt.prompt_id,
            prompt=prompt.prompt,
            prompt_token_ids=prompt.token_ids,
            policy_version=self.inputs.policy_version,
            completions=tuple(made[k] for k in sorted(made)),
            columns=prompt.columns,
            tools=prompt.tools,
        )


class Canary:
    """Takes the first completion of some prompts: those taken over from earlier attempts, then new
    ones.

    `taken_over` are ids of completions that are not generated again.
    """

    def __init__(
        self, directory: AttemptDir, earlier: Sequence[AttemptDir], taken_over: Collection[str]
    ) -> None:
        self.path = directory.canary
        kept = {
            row.completion_id: row
            for attempt in earlier
            for row in _read(attempt.canary)
            if row.completion_id in taken_over
        }
        rows = list(kept.values())[:NUM_COMPLETIONS]
        self.path.write_bytes(b"".join(map(encode_row, rows)))
        self._prompts: set[int] = set()
        self._num_left = NUM_COMPLETIONS - len(rows)

    def wants(self, row: Row) -> bool:
        """Says whether this completion is one of them; the first prompts asked for are taken."""
        if row.k != 0:
            return False
        if row.prompt_index not in self._prompts and self._num_left:
            self._prompts.add(row.prompt_index)
            self._num_left -= 1
        return row.prompt_index in self._prompts

    def add(self, completion_id: str, request: Request, generated: Generated) -> None:
        """Writes a completion down whose log-probabilities were asked for."""
        row = CanaryRow(
            completion_id,
            request.prompt_token_ids,
            generated.token_ids[:NUM_TOKENS],
            generated.logps[:NUM_TOKENS],
        )
        with self.path.open("ab") as file:
            file.write(encode_row(row))


def _read(path: Path) -> list[CanaryRow]:
    rows: list[CanaryRow] = []
    with suppress(CorruptFileError, OSError):
        rows.extend(read_rows(path, CanaryRow, torn_tail=True))
    return rows
