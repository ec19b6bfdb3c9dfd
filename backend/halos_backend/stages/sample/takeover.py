"""Takes over the groups that an earlier attempt of the same stage and round left complete."""

from __future__ import annotations

from collections.abc import Sequence

from halos_backend.errors import CorruptFileError, HalosError
from halos_backend.records import Group, Prompt, read_rows
from halos_backend.stages.runtime import Attempt
from halos_backend.store.job import Job, read_job
from halos_backend.store.run_dir import AttemptDir


def reusable_groups(attempt: Attempt, expected: Sequence[Prompt]) -> list[Group]:
    """The longest run of groups, from the first one on, that an earlier attempt wrote for this job.

    `expected` are the prompts in the order in which groups are written.
    """
    found = [
        _groups_of(earlier, expected)
        for earlier in attempt.earlier_attempts
        if _is_same_job(earlier, attempt.job)
    ]
    return max(found, key=len, default=[])


def _is_same_job(earlier: AttemptDir, job: Job) -> bool:
    """Whether everything that the rows depend on is the same."""
    try:
        before = read_job(earlier.job)
    except HalosError:
        return False
    same = ("policy", "prompts", "sample")
    return (
        before.inputs == job.inputs
        and before.seed == job.seed
        and before.num_threads == job.num_threads
        and all(before.settings[table] == job.settings[table] for table in same)
        and before.settings["train"]["loss"] == job.settings["train"]["loss"]
    )


def _groups_of(earlier: AttemptDir, expected: Sequence[Prompt]) -> list[Group]:
    groups: list[Group] = []
    try:
        for group, prompt in zip(
            read_rows(earlier.completions, Group, torn_tail=True), expected, strict=False
        ):
            if group.prompt_id != prompt.prompt_id:
                break
            groups.append(group)
    except (CorruptFileError, OSError):
        pass  # what was read before the damage is complete
    return groups
