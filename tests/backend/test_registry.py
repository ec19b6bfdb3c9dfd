"""A run's state from snapshot and journal, and the list of runs."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from halos_backend.errors import CorruptFileError, RunNotFoundError, UsageError
from halos_backend.events import RunEvent
from halos_backend.store.registry import check_readable, list_runs, load_state, write_snapshot
from halos_backend.store.run_dir import RunDir, check_run_name, find_run
from halos_backend.store.state import RunState, fold
from halos_backend.store.writer import EventWriter

from tests.support.journals import eventful_journal, settings


def make_run(path: Path, events: list[RunEvent], *, snapshot_after: int | None = None) -> RunDir:
    """A run directory of `events`, its snapshot taken after the first so many."""
    path.mkdir()
    run_dir = RunDir(path)
    with EventWriter(run_dir.events) as writer:
        for number, event in enumerate(events, start=1):
            writer.append(event)
            if number == snapshot_after:
                write_snapshot(run_dir, fold(events[:number]), offset=writer.size)
    return run_dir


EVENTS = eventful_journal(settings())


@pytest.mark.parametrize("snapshot_after", [None, 1, 10, len(EVENTS)])
def test_the_state_is_the_fold_however_old_the_snapshot(
    tmp_path: Path, snapshot_after: int | None
) -> None:
    run_dir = make_run(tmp_path / "run", EVENTS, snapshot_after=snapshot_after)

    assert load_state(run_dir) == fold(EVENTS)


def test_a_fresh_snapshot_spares_the_journal(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", EVENTS, snapshot_after=len(EVENTS))
    content = bytearray(run_dir.events.read_bytes())
    content[0] = ord("?")  # a reader of the whole journal would fail
    run_dir.events.write_bytes(content)

    assert load_state(run_dir) == fold(EVENTS)


@pytest.mark.parametrize(
    "snapshot",
    [
        b"",
        b"{",
        b"null",
        b'{"offset":1}',
        b"\xff\xfe\x00",
        b'{"offset":10,"state":{"run":"\xff"},"schema_version":1}',
        b'{"offset":10,"state":' + b"[" * 100_000,
        b'{"offset":-5,"state":{"run":"forged"},"schema_version":1}',
        b'{"offset":0,"state":{"run":"forged"},"schema_version":1}',
        b'{"offset":7,"state":{"run":"forged"},"schema_version":1}',
        b'{"offset":999999999,"state":{"run":"forged"},"schema_version":1}',
    ],
)
def test_a_snapshot_that_is_not_of_this_journal_is_passed_over(
    tmp_path: Path, snapshot: bytes
) -> None:
    run_dir = make_run(tmp_path / "run", EVENTS)
    run_dir.state.write_bytes(snapshot)

    assert load_state(run_dir) == fold(EVENTS)


def test_a_snapshot_of_another_schema_version_is_passed_over(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", EVENTS, snapshot_after=5)
    snapshot = msgspec.json.decode(run_dir.state.read_bytes())
    run_dir.state.write_bytes(
        msgspec.json.encode({**snapshot, "state": {"run": "other"}, "schema_version": 999})
    )

    assert load_state(run_dir) == fold(EVENTS)


def test_a_snapshot_ahead_of_a_cut_journal_is_passed_over(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", EVENTS, snapshot_after=len(EVENTS))
    lines = run_dir.events.read_bytes().splitlines(keepends=True)
    run_dir.events.write_bytes(b"".join(lines[:4]))

    assert load_state(run_dir) == fold(EVENTS[:4])


def test_a_directory_without_a_journal_has_the_empty_state(tmp_path: Path) -> None:
    state = load_state(RunDir(tmp_path))

    assert state == RunState()
    with pytest.raises(CorruptFileError, match="no RunCreated"):
        check_readable(state, RunDir(tmp_path))


def test_runs_are_listed_newest_journal_first_and_junk_is_not(tmp_path: Path) -> None:
    for age, name in enumerate(["middle", "newest", "oldest"]):
        run_dir = make_run(tmp_path / name, EVENTS[:1])
        t = 1_000_000 - [1, 0, 2][age]
        os.utime(run_dir.events, (t, t))
    (tmp_path / "empty").mkdir()
    (tmp_path / "a-file").write_text("")
    (tmp_path / "journal-is-a-directory" / "events.jsonl").mkdir(parents=True)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    make_run(tmp_path / ".half.creating-1", EVENTS[:1])

    assert [run_dir.name for run_dir in list_runs(tmp_path)] == ["newest", "middle", "oldest"]
    assert list_runs(tmp_path / "absent") == []
    assert list_runs(tmp_path / "a-file") == []


def test_a_run_is_found_by_name_or_path(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", EVENTS[:1])

    assert find_run(tmp_path, "run").path == run_dir.path
    assert find_run(tmp_path / "elsewhere", str(run_dir.path)).path == run_dir.path
    with pytest.raises(RunNotFoundError, match="no run 'other'"):
        find_run(tmp_path, "other")
    with pytest.raises(RunNotFoundError, match=r"no run 'rum' in .*; did you mean 'run'\?"):
        find_run(tmp_path, "rum")


@pytest.mark.parametrize(
    "name", ["", ".hidden", "../up", "a/b", "a b", "-x", "x" * 101, "é", "a\n"]
)
def test_a_name_that_would_leave_the_runs_directory_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no run name"):
        check_run_name(tmp_path, name)


def test_a_taken_name_is_refused_with_the_way_on(tmp_path: Path) -> None:
    make_run(tmp_path / "run", EVENTS[:1])

    (tmp_path / "run-2").mkdir()
    attach = f"halos-tui attach run --runs-dir {tmp_path}"
    with pytest.raises(UsageError, match=f"--name run-3; or look at that one: {attach}; or delete"):
        check_run_name(tmp_path, "run")
