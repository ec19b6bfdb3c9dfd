"""What the list of runs is made of, and that it reads no more than it must."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from halos_backend.events import PauseRequested, RunFailed, StageDelayed
from halos_backend.store.own_words import OwnWords, write_own_words
from halos_backend.store.run_dir import RunDir

from halos_tui.runs import reader
from halos_tui.runs.reader import RunRow, RunsReader
from tests.support.made_run import STARTED_T, MadeRun


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the runs whose files were read."""
    names: list[str] = []
    summarize_run = reader.summarize_run

    def counted(run_dir: RunDir, *, journal_bytes: int) -> object:
        names.append(run_dir.name)
        return summarize_run(run_dir, journal_bytes=journal_bytes)

    monkeypatch.setattr(reader, "summarize_run", counted)
    yield names


def read(reader: RunsReader) -> dict[str, RunRow]:
    rows = reader.read()
    assert rows is not None
    return {row.name: row for row in rows}


def test_what_a_row_says(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, loss="kto", feedback="binary", num_rounds=9, num_prompts=18)
    run.supervised()
    run.whole_round(1, reward_mean=0.25)
    run.whole_round(2, reward_mean=0.75)
    run.start_round(3)
    run.start_stage(3, "sample")

    row = read(RunsReader(tmp_path))["a-run"]

    assert (row.status, row.round, row.num_rounds, row.stage) == ("running", 3, 9, "sample")
    assert (row.loss, row.rewards, row.reward, row.change) == ("kto", (0.25, 0.75), 0.75, 0.5)
    assert row.created_t == STARTED_T
    assert row.value_of("sample.group_size") == 2
    assert row.value_of("status") == "running"
    assert row.value_of("sample.nothing") is None


def test_nothing_new_is_none(tmp_path: Path) -> None:
    reader = RunsReader(tmp_path)
    assert reader.read() == ()
    assert reader.read() is None
    MadeRun(tmp_path)
    assert len(read(reader)) == 1
    assert reader.read() is None


def test_a_root_that_is_not_there_has_no_runs(tmp_path: Path) -> None:
    assert RunsReader(tmp_path / "none").read() == ()
    (tmp_path / "file").write_text("")
    assert RunsReader(tmp_path / "file").read() == ()


def test_only_a_run_whose_journal_grew_is_read_again(tmp_path: Path, looked_at: list[str]) -> None:
    runs = [MadeRun(tmp_path, name) for name in ("one", "two", "three")]
    reader = RunsReader(tmp_path)
    reader.read()
    looked_at.clear()

    runs[1].whole_round(1, reward_mean=0.5)
    assert read(reader)["two"].rewards == (0.5,)
    assert looked_at == ["two"]

    looked_at.clear()
    assert reader.read() is None
    assert looked_at == []


def test_words_that_change_have_nothing_else_of_the_run_read(
    tmp_path: Path, looked_at: list[str]
) -> None:
    runs = [MadeRun(tmp_path, name) for name in ("one", "two")]
    reader = RunsReader(tmp_path)
    reader.read()
    looked_at.clear()

    write_own_words(runs[0].dir, OwnWords(tags=("x",)))
    assert read(reader)["one"].words.tags == ("x",)
    runs[0].whole_round(1, reward_mean=0.5)
    assert read(reader)["one"].words.tags == ("x",)
    assert looked_at == ["one"]
    runs[0].dir.own_words.write_text('{"title": "by hand"}')
    assert read(reader)["one"].words.title == "by hand"


def test_the_run_that_was_written_to_last_comes_first(tmp_path: Path) -> None:
    older, newer = MadeRun(tmp_path, "older"), MadeRun(tmp_path, "newer")
    reader = RunsReader(tmp_path)
    older.start_round(1)

    assert list(read(reader)) == ["older", "newer"]
    newer.start_round(1)
    assert list(read(reader)) == ["newer", "older"]


def test_work_that_nobody_does_is_lost(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.supervised()
    run.start_round(1)
    reader = RunsReader(tmp_path)
    assert read(reader)["a-run"].status == "running"
    run.unsupervised()
    assert read(reader)["a-run"].status == "lost"
    run.supervised()
    assert read(reader)["a-run"].status == "running"


def test_why_it_stopped_and_what_is_in_its_way(tmp_path: Path) -> None:
    failed, waiting = MadeRun(tmp_path, "failed"), MadeRun(tmp_path, "waiting")
    failed.say(RunFailed(t=STARTED_T, reason="no memory left"))
    waiting.supervised()
    waiting.start_round(1)
    delayed = StageDelayed(t=STARTED_T, round=1, stage="sample", attempt=1, reason="a GPU is taken")
    waiting.say(delayed)
    stopping = MadeRun(tmp_path, "stopping")
    stopping.supervised()
    stopping.say(PauseRequested(t=STARTED_T, request_id="r"))

    rows = read(RunsReader(tmp_path))

    assert (rows["failed"].status, rows["failed"].problem) == ("failed", "no memory left")
    assert rows["waiting"].problem == "a GPU is taken"
    assert (rows["stopping"].status, rows["stopping"].problem) == ("pausing", "")


def test_a_run_that_cannot_be_read_says_why_and_hides_no_other(tmp_path: Path) -> None:
    MadeRun(tmp_path, "fine")
    for name, content in (("garbage", b"rubbish\n"), ("empty", b"")):
        MadeRun(tmp_path, name).dir.events.write_bytes(content)
    later = MadeRun(tmp_path, "later")
    content = later.dir.events.read_bytes().replace(b'"schema_version":1', b'"schema_version":9')
    later.dir.events.write_bytes(content)

    rows = read(RunsReader(tmp_path))

    assert rows["fine"].status == "lost"
    assert {rows[name].status for name in ("garbage", "empty", "later")} == {"unreadable"}
    assert rows["garbage"].problem.startswith("events.jsonl, line 1")
    assert "no RunCreated" in rows["empty"].problem
    assert "install that version" in rows["later"].problem
    assert rows["garbage"].value_of("train.lr") is None


def test_a_run_that_is_deleted_is_listed_no_more(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    reader = RunsReader(tmp_path)
    assert list(read(reader)) == ["a-run"]
    shutil.rmtree(run.dir.path)
    assert reader.read() == ()


def test_what_is_no_run_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "odd" / "events.jsonl").mkdir(parents=True)
    assert RunsReader(tmp_path).read() == ()
