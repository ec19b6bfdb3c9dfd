"""Labelling completions that are still being sampled: the same rows as when all were there."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from halos_backend.errors import StageError
from halos_backend.events import AttemptFailed, Progressed
from halos_backend.records import Group, encode_row
from halos_backend.stages import serving
from halos_backend.stages.label.completions import (
    BLOCK_COMPLETIONS,
    Follower,
    Patience,
    SupervisorGoneError,
    blocks_of,
    groups_per_block,
)
from halos_backend.stages.runtime import open_attempt
from halos_backend.store.job import Job, LabelInputs, read_job, write_job
from halos_backend.store.manifest import write_done
from halos_backend.store.reader import attempt_journal
from halos_backend.store.run_dir import AttemptDir

from tests.support.forks import forking_python, kill_fork
from tests.support.label_fixtures import (
    function_judge,
    make_attempt,
    ragged_groups,
    reward_model_judge,
    save_classifier,
)
from tests.support.waiting import wait_for

NUM_GROUPS = 80
GROUP_SIZE = 8
"""640 completions: two whole blocks of a reward model's, and a part of one."""


class Sampling:
    """A sample attempt that writes when it is told to."""

    def __init__(self, path: Path, groups: Sequence[Group]) -> None:
        path.mkdir(parents=True)
        self.directory = AttemptDir(path)
        self._left = [encode_row(group) for group in groups]
        self.directory.completions.touch()

    def write(self, count: int, *, torn: bool = False) -> None:
        """So many groups, and with `torn` half of the next one."""
        content = b"".join(self._left[:count])
        del self._left[:count]
        if torn:
            half = len(self._left[0]) // 2
            content += self._left[0][:half]
            self._left[0] = self._left[0][half:]
        with self.directory.completions.open("ab") as file:
            file.write(content)

    def finish(self) -> None:
        self.write(len(self._left))
        write_done(self.directory.path, [self.directory.completions], {})


def follower(path: Path, sampling: Sampling, like: Path, *, earlier: Sequence[Path] = ()) -> Path:
    """An attempt as that one, of completions that are still written."""
    path.mkdir(parents=True)
    job = read_job(AttemptDir(like).job)
    inputs = LabelInputs(str(sampling.directory.completions), num_growing=NUM_GROUPS)
    made: Job = msgspec.structs.replace(
        job, inputs=inputs, earlier_attempts=tuple(str(attempt) for attempt in earlier)
    )
    write_job(AttemptDir(path).job, made)
    return path


@contextmanager
def stage(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [forking_python(), "-m", "halos_backend.stages.label", "--attempt-dir", str(path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            kill_fork(process)


def num_rewards(path: Path) -> int:
    try:
        return AttemptDir(path).rewards.read_bytes().count(b'"reward":')
    except FileNotFoundError:
        return 0


def with_group_size(path: Path) -> Path:
    job = read_job(AttemptDir(path).job)
    settings = {**job.settings, "sample": {"group_size": GROUP_SIZE}}
    write_job(AttemptDir(path).job, msgspec.structs.replace(job, settings=settings))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The attempt that had all completions from its beginning."""
    folder = tmp_path_factory.mktemp("whole")
    judge = reward_model_judge(save_classifier(folder / "judge"))
    groups = ragged_groups(NUM_GROUPS, GROUP_SIZE)
    path = with_group_size(make_attempt(folder / "attempt", groups, judge))
    with stage(path) as process:
        assert process.wait(timeout=120) == 0
    return path


def assert_same(path: Path, whole: Path) -> None:
    for name in ("scores.jsonl", "feedback.jsonl", "rewards.jsonl"):
        assert (path / name).read_bytes() == (whole / name).read_bytes(), name


def test_rewards_are_the_same_bit_for_bit_however_the_groups_come(
    tmp_path: Path, whole: Path
) -> None:
    sampling = Sampling(tmp_path / "sample", ragged_groups(NUM_GROUPS, GROUP_SIZE))
    path = follower(tmp_path / "follows", sampling, whole)
    with stage(path) as process:
        sampling.write(31, torn=True)
        time.sleep(0.3)
        assert num_rewards(path) == 0  # not a block yet
        sampling.write(2)
        wait_for(lambda: num_rewards(path) == BLOCK_COMPLETIONS, deadline_s=60.0)
        sampling.write(NUM_GROUPS - 33)
        wait_for(lambda: num_rewards(path) == NUM_GROUPS * GROUP_SIZE, deadline_s=60.0)
        assert process.poll() is None  # whether these are kept is not known before DONE
        assert not AttemptDir(path).done.exists()
        sampling.finish()
        assert process.wait(timeout=60) == 0
    assert_same(path, whole)


def test_a_killed_follower_leaves_its_blocks_to_the_next_attempt(
    tmp_path: Path, whole: Path
) -> None:
    sampling = Sampling(tmp_path / "sample", ragged_groups(NUM_GROUPS, GROUP_SIZE))
    first = follower(tmp_path / "first", sampling, whole)
    with stage(first) as process:
        sampling.write(40)
        wait_for(lambda: num_rewards(first) == BLOCK_COMPLETIONS, deadline_s=60.0)
        kill_fork(process)
    marked = AttemptDir(first).rewards.read_bytes()
    changed = re.sub(rb'"reward":[^}]*', b'"reward":1000.5', marked, count=1)
    AttemptDir(first).rewards.write_bytes(changed)
    sampling.finish()
    second = with_earlier(
        make_attempt(
            tmp_path / "second" / "attempt",
            ragged_groups(NUM_GROUPS, GROUP_SIZE),
            read_job(AttemptDir(whole).job).settings["label"]["judge"],
        ),
        first,
    )
    with stage(second) as process:
        assert process.wait(timeout=60) == 0
    taken_over = AttemptDir(second).rewards.read_bytes()
    assert b'"reward":1000.5' in taken_over  # it was not scored again
    assert taken_over.count(b'"reward":') == NUM_GROUPS * GROUP_SIZE


def with_earlier(path: Path, earlier: Path) -> Path:
    job = read_job(AttemptDir(with_group_size(path)).job)
    write_job(AttemptDir(path).job, msgspec.structs.replace(job, earlier_attempts=(str(earlier),)))
    return path


def test_a_function_judges_each_group_as_it_comes(tmp_path: Path) -> None:
    judge = tmp_path / "judge.py"
    judge.write_text("def judge(prompt, completion, row):\n    return float(len(completion))\n")
    groups = ragged_groups(NUM_GROUPS, GROUP_SIZE)
    whole = make_attempt(tmp_path / "whole", groups, function_judge(judge))
    sampling = Sampling(tmp_path / "sample", groups)
    path = follower(tmp_path / "follows", sampling, whole)
    with stage(path) as process:
        sampling.write(1, torn=True)
        wait_for(lambda: num_rewards(path) == GROUP_SIZE, deadline_s=60.0)
        sampling.finish()
        assert process.wait(timeout=60) == 0
    with stage(whole) as process:
        assert process.wait(timeout=60) == 0
    assert_same(path, whole)


def test_waiting_is_told_so_that_it_is_not_taken_for_stalling(tmp_path: Path) -> None:
    judge = tmp_path / "judge.py"
    judge.write_text("def judge(prompt, completion, row):\n    return 1.0\n")
    groups = ragged_groups(NUM_GROUPS, GROUP_SIZE)
    like = make_attempt(tmp_path / "like", groups, function_judge(judge))
    job = read_job(AttemptDir(like).job)
    settings = {**job.settings, "launch": {**job.settings["launch"], "stall_timeout_s": 1.0}}
    write_job(AttemptDir(like).job, msgspec.structs.replace(job, settings=settings))
    path = follower(tmp_path / "follows", Sampling(tmp_path / "sample", groups), like)

    def told() -> list[Progressed]:
        journal = AttemptDir(path).events
        events = attempt_journal(journal).read() if journal.exists() else []
        return [event for event in events if isinstance(event, Progressed)]

    with stage(path):
        wait_for(lambda: len(told()) > 2, deadline_s=60.0)
    assert {(event.done, event.total) for event in told()} == {(0, 8 * NUM_GROUPS)}


def open_follower(tmp_path: Path, groups: Sequence[Group]) -> tuple[Sampling, Patience]:
    sampling = Sampling(tmp_path / "sample", groups)
    like = make_attempt(tmp_path / "like", groups, {"kind": "function", "function": "judge.py:j"})
    return sampling, Patience(open_attempt(like), lambda: None)


def test_an_attempt_that_is_done_early_is_refused(tmp_path: Path) -> None:
    groups = ragged_groups(3, 2)
    sampling, patience = open_follower(tmp_path, groups)
    sampling.finish()
    with pytest.raises(StageError, match=r"completions\.jsonl ends 1 groups early"):
        list(Follower(sampling.directory, 4, patience).groups())


def test_a_file_that_is_not_what_was_read_is_refused(tmp_path: Path) -> None:
    sampling, patience = open_follower(tmp_path, ragged_groups(3, 2))
    sampling.write(3)
    other = ragged_groups(3, 2, longest=5)
    follower = Follower(sampling.directory, 3, patience)
    assert list(follower.groups()) == ragged_groups(3, 2)
    sampling.directory.completions.write_bytes(b"".join(encode_row(group) for group in other))
    write_done(sampling.directory.path, [sampling.directory.completions], {})
    with pytest.raises(StageError, match="is not what was read while it was written"):
        follower.confirm()


def test_without_a_supervisor_nobody_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "LOOK_S", 0.0)
    monkeypatch.setattr(serving, "TIMEOUT_S", 0.2)
    sampling, patience = open_follower(tmp_path, ragged_groups(3, 2))
    sampling.write(2)
    reading = Follower(sampling.directory, 3, patience).groups()
    assert len([next(reading), next(reading)]) == 2
    with pytest.raises(SupervisorGoneError):
        next(reading)


def test_blocks_do_not_depend_on_when_groups_come(tmp_path: Path) -> None:
    groups = ragged_groups(7, 2)
    assert [len(block) for block in blocks_of(iter(groups), 3)] == [3, 3, 1]
    like = make_attempt(tmp_path / "like", groups, reward_model_judge(tmp_path))
    settings = open_attempt(with_group_size(like)).settings
    assert groups_per_block(settings, 1) == 32
    assert groups_per_block(settings, 4) == 128


def test_the_last_word_of_a_follower_names_the_row(tmp_path: Path) -> None:
    judge = tmp_path / "judge.py"
    judge.write_text("def judge(prompt, completion, row):\n    return 1.0\n")
    groups = ragged_groups(2, 2)
    like = make_attempt(tmp_path / "like", groups, function_judge(judge))
    sampling = Sampling(tmp_path / "sample", groups)
    path = follower(tmp_path / "follows", sampling, like)
    sampling.write(1)
    with sampling.directory.completions.open("ab") as file:
        file.write(b"{}\n")
    with stage(path) as process:
        assert process.wait(timeout=60) != 0
    (failed,) = (
        event
        for event in attempt_journal(AttemptDir(path).events).read()
        if isinstance(event, AttemptFailed)
    )
    assert "completions.jsonl, line 2" in failed.reason
