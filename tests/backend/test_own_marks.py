"""A person's own marks on completions, and notes: what is written, and what damage does."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from halos_backend.errors import UsageError
from halos_backend.store.own_words import (
    NO_MARKS,
    OwnMark,
    OwnMarks,
    read_own_marks,
    toggle_marks,
    write_note,
)
from halos_backend.store.run_dir import RunDir

FIRST, SECOND, OTHER = (1, "p", "p.0"), (1, "p", "p.1"), (2, "q", "q.0")


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def test_a_mark_and_a_note_are_rows_and_without_any_there_is_no_file(run: RunDir) -> None:
    assert read_own_marks(run) == NO_MARKS
    toggle_marks(run, [FIRST])
    written = write_note(run, [OTHER], " too\n short ")

    assert written == read_own_marks(run)
    assert run.own_marks.read_bytes().splitlines() == [
        b'{"round":1,"prompt_id":"p","completion_id":"p.0","is_marked":true}',
        b'{"round":2,"prompt_id":"q","completion_id":"q.0","note":"too short"}',
    ]
    toggle_marks(run, [FIRST])
    write_note(run, [OTHER], "")
    assert [*run.path.iterdir()] == []


def test_answers_that_are_alike_are_marked_and_unmarked_together(run: RunDir) -> None:
    toggle_marks(run, [FIRST])
    write_note(run, [FIRST, SECOND], "twice")

    assert read_own_marks(run).of == {
        FIRST: OwnMark(*FIRST, is_marked=True, note="twice"),
        SECOND: OwnMark(*SECOND, note="twice"),
    }
    assert not any(mark.is_marked for mark in toggle_marks(run, [FIRST, SECOND]).of.values())
    assert all(mark.is_marked for mark in toggle_marks(run, [FIRST, SECOND]).of.values())


def test_a_row_that_cannot_be_read_is_named_and_stays(run: RunDir) -> None:
    toggle_marks(run, [FIRST])
    damaged = b'\x00rubbish\n{"round":"x"}\n'
    run.own_marks.write_bytes(run.own_marks.read_bytes() + damaged)

    found = read_own_marks(run)
    assert set(found.of) == {FIRST}
    assert found.problem.startswith(f"{run.own_marks}, line 2: ")
    toggle_marks(run, [SECOND])
    assert damaged in run.own_marks.read_bytes()
    assert set(read_own_marks(run).of) == {FIRST, SECOND}


def test_a_file_that_cannot_be_read_at_all_is_never_replaced(run: RunDir, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    run.own_marks.symlink_to(elsewhere)

    assert read_own_marks(run) == OwnMarks(
        problem=f"{run.own_marks}: Too many levels of symbolic links"
    )
    with pytest.raises(UsageError, match="nothing was written"):
        toggle_marks(run, [FIRST])
    assert elsewhere.read_text() == "mine"


def test_what_cannot_be_written_says_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be written: No such file or directory"):
        toggle_marks(RunDir(tmp_path / "gone"), [FIRST])
    with pytest.raises(UsageError, match="at most 2000 characters, and this one 2001"):
        write_note(RunDir(tmp_path), [FIRST], "x" * 2001)


def test_no_mark_is_lost_where_several_write(run: RunDir) -> None:
    keys = [(1, "p", f"p.{number}") for number in range(20)]
    threads = [threading.Thread(target=toggle_marks, args=(run, [key])) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(read_own_marks(run).of) == set(keys)
