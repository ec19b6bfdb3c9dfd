"""The sample and train stages without models: they write a chain of digests of their inputs.

They run under the product's own runtime, so jobs, events, `DONE`, exit codes and workers are real.
They take over what earlier attempts left complete, as the real stages do. A stage that is given
other inputs, other settings or the leavings of another stage therefore ends with other bits, and
`took_over` in its summary says how much of its work it did not do again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from halos_backend.errors import CorruptFileError, HalosError
from halos_backend.events.summaries import SampleSummary, TrainSummary
from halos_backend.records import Completion, Group, Prompt, encode_row, read_rows
from halos_backend.stages.runtime import Attempt, StageResult, run_stage
from halos_backend.store.job import SampleInputs, TrainInputs, read_job
from halos_backend.store.run_dir import AttemptDir, run_containing

PACE_S = 0.03
"""How long a row or a step takes: a stage lasts long enough to be struck in its midst."""
HELD_AT = 4
WEIGHTS = "model.safetensors"
PADDING_BYTES = 80_000
"""Makes a checkpoint larger than any journal, so that a limit on file sizes meets it alone."""


class Sampled(SampleSummary, frozen=True, kw_only=True):
    took_over: int


class Trained(TrainSummary, frozen=True, kw_only=True):
    took_over: int


def main(stage: str) -> NoReturn:
    """Run as the program of that stage."""
    executes: dict[str, Callable[[Attempt], StageResult]] = {"sample": sample, "train": train}
    run_stage(partial(_with_helper, executes[stage]))


def _with_helper(execute: Callable[[Attempt], StageResult], attempt: Attempt) -> StageResult:
    with helper():
        return execute(attempt)


@contextmanager
def helper() -> Iterator[None]:
    """Have a process in a session of its own, as engines do: a kill of the stage spares it."""
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        yield
    finally:
        child.kill()
        child.wait()


def sample(attempt: Attempt) -> StageResult:
    """Write a group for each of the round's prompts; each row depends on the policy's bits."""
    inputs, settings = attempt.job.inputs, attempt.job.settings["sample"]
    assert isinstance(inputs, SampleInputs)
    prompts = list(read_rows(Path(inputs.prompts), Prompt))
    mine = [prompts[(inputs.cursor + i) % len(prompts)] for i in range(inputs.num_prompts)]
    origin = digest(_read(Path(inputs.policy) / WEIGHTS), attempt.job.seed, settings)
    taken = max((_groups_of(earlier) for earlier in _alike(attempt)), key=len, default=[])
    total = len(mine) * settings["group_size"]
    with attempt.directory.completions.open("wb", buffering=0) as file:
        file.write(b"".join(encode_row(group) for group in taken))
        attempt.progress(len(taken), len(mine), "prompts")
        for number, prompt in enumerate(mine[len(taken) :], start=len(taken) + 1):
            _work(attempt, number)
            file.write(encode_row(_group(prompt, origin, inputs, settings["group_size"])))
            attempt.progress(number, len(mine), "prompts")
    summary = Sampled(
        num_prompts=len(mine), num_completions=total, length_mean=1.0, took_over=len(taken)
    )
    return StageResult((attempt.directory.completions,), summary)


def train(attempt: Attempt) -> StageResult:
    """Make a step of each row of feedback; the checkpoint is the last digest of the chain."""
    inputs, settings = attempt.job.inputs, attempt.job.settings["train"]
    assert isinstance(inputs, TrainInputs)
    feedback = _read(Path(inputs.feedback)).splitlines()
    states = [] if inputs.trainer_state is None else [_read(Path(inputs.trainer_state) / "state")]
    model = _read(Path(inputs.model) / WEIGHTS)
    origin = digest(model, *states, attempt.job.seed, settings, inputs.first_step, *feedback)
    step, chain = max(_states_of(_alike(attempt), origin), default=(0, origin))
    taken = step
    attempt.progress(step, len(feedback), "steps")
    for step, row in enumerate(feedback[taken:], start=taken + 1):
        _work(attempt, step)
        chain = digest(chain, row)
        _write_state(attempt.directory.partial_state, step, origin, chain)
        attempt.progress(step, len(feedback), "steps")
        attempt.metrics(inputs.first_step + step, {"loss": 1 / step})
    _write_checkpoint(attempt.directory.checkpoint, chain)
    attempt.directory.trainer_state.mkdir(exist_ok=True)
    (attempt.directory.trainer_state / "state").write_text(f"{step} {chain}")
    outputs = (attempt.directory.checkpoint, attempt.directory.trainer_state)
    summary = Trained(num_steps=step, loss_last=1 / step, kl_initial=0.0, took_over=taken)
    return StageResult(outputs, summary)


def digest(*parts: Any) -> str:
    """Return a digest of these values in this order."""
    made = hashlib.sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        made.update(hashlib.sha256(content).digest())
    return made.hexdigest()


def _work(attempt: Attempt, number: int) -> None:
    """Take the time of one row or step. After `HELD_AT` of them wait for as long as a case says."""
    time.sleep(PACE_S)
    hold = run_containing(attempt.directory.path) / f"hold_{attempt.job.stage}"
    while number > HELD_AT and hold.exists():
        time.sleep(PACE_S)


def _read(path: Path) -> bytes:
    return path.read_bytes()


def _alike(attempt: Attempt) -> list[AttemptDir]:
    """Return the earlier attempts of the same job; one that was finished is not to be trusted."""
    return [e for e in attempt.earlier_attempts if not e.done.exists() and _is_alike(e, attempt)]


def _is_alike(earlier: AttemptDir, attempt: Attempt) -> bool:
    with suppress(HalosError):
        job = read_job(earlier.job)
        return (job.inputs, job.settings) == (attempt.job.inputs, attempt.job.settings)
    return False


def _group(prompt: Prompt, origin: str, inputs: SampleInputs, group_size: int) -> Group:
    return Group(
        prompt_id=prompt.prompt_id,
        prompt=prompt.prompt,
        prompt_token_ids=prompt.token_ids,
        policy_version=inputs.policy_version,
        completions=tuple(_completion(prompt, origin, k) for k in range(group_size)),
    )


def _completion(prompt: Prompt, origin: str, k: int) -> Completion:
    text = digest(origin, prompt.prompt_id, k)
    return Completion(
        completion_id=f"{prompt.prompt_id}.{k}",
        text=text,
        token_ids=tuple(bytes.fromhex(text)[:4]),
        finish_reason="stop",
    )


def _groups_of(earlier: AttemptDir) -> list[Group]:
    groups: list[Group] = []
    with suppress(CorruptFileError, OSError):  # what was read before the damage is complete
        groups.extend(read_rows(earlier.completions, Group, torn_tail=True))
    return groups


def _write_state(root: Path, step: int, origin: str, chain: str) -> None:
    """Replace the state in mid-round by a newer one: there is a whole one at every moment."""
    unfinished, whole = root / ".unfinished", root / f"step_{step:06d}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    (unfinished / "state.json").write_text(json.dumps([step, origin, chain]))
    unfinished.rename(whole)
    for older in [path for path in root.glob("step_*") if path != whole]:
        shutil.rmtree(older)


def _states_of(attempts: list[AttemptDir], origin: str) -> Iterator[tuple[int, str]]:
    for path in (path for a in attempts for path in a.partial_state.glob("step_*/state.json")):
        with suppress(OSError, ValueError):
            step, belongs_to, chain = json.loads(path.read_bytes())
            if belongs_to == origin:
                yield step, chain


def _write_checkpoint(folder: Path, chain: str) -> None:
    """Write a file in the format of real weights, which the supervisor looks at."""
    content = bytes.fromhex(chain) + bytes(PADDING_BYTES)
    weights = {"dtype": "U8", "shape": [len(content)], "data_offsets": [0, len(content)]}
    header = json.dumps({"weights": weights}).encode()
    folder.mkdir(exist_ok=True)
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + content)
