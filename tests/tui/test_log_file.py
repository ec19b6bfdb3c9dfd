"""A log as a screen reads it, against a reading of the whole file at once."""

from __future__ import annotations

import os
import re
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread

import pytest
from halos_backend.errors import UsageError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halos_tui.logs.blocks import LineIndex, LogBytes, LogSizes
from halos_tui.logs.file import LogFile, LogLine
from halos_tui.logs.search import Hit, SearchBatch
from halos_tui.search_term import SearchTerm

TINY = LogSizes(block=4, shown=6, piece=16, search=12)
"""So small that every line of a test crosses blocks, is clipped, or is broken into pieces."""

CONTENT = st.lists(
    st.sampled_from([b"\n", b"\n", b"\r", b"a", b"b", b"aab", b"\xc3\xa9", b"\xff", b"x" * 11]),
    max_size=40,
).map(b"".join)

on_files = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def opened(path: Path, content: bytes, sizes: LogSizes | None = None) -> LogFile:
    path.write_bytes(content)
    log = LogFile(path, sizes=sizes)
    assert log.refresh().condition == "present"
    return log


def naive_spans(content: bytes, piece: int) -> list[tuple[int, int]]:
    """Where lines are: after newlines, and at multiples of `piece` after `piece` bytes of none."""
    breaks = {0, len(content)}
    breaks |= {at + 1 for at, byte in enumerate(content) if byte == 10}
    for at in range(piece, len(content), piece):
        if b"\n" not in content[at - piece : at]:
            breaks.add(at)
    ordered = sorted(breaks)
    return list(pairwise(ordered))


def naive_line(content: bytes, start: int, end: int, shown: int) -> LogLine:
    raw = content[start:end]
    state = raw.removesuffix(b"\n").rstrip(b"\r").split(b"\r")[-1]
    return LogLine(
        start,
        end,
        state[:shown].decode(errors="backslashreplace"),
        len(state[shown:]),
        is_complete=raw.endswith(b"\n") or end < len(content),
    )


def naive_hits(content: bytes, pattern: bytes, flags: int, piece: int) -> list[Hit]:
    return [
        Hit(start + found.start(), len(found[0]), start)
        for start, end in naive_spans(content, piece)
        for found in re.finditer(pattern, content[start:end].removesuffix(b"\n"), flags)
        if found[0]
    ]


def all_hits(batches: Iterator[SearchBatch]) -> list[Hit]:
    return [hit for batch in batches for hit in batch.hits]


@on_files
@given(content=CONTENT, count=st.integers(1, 5))
def test_pages_up_and_down_are_the_lines_of_the_file(
    tmp_path: Path, content: bytes, count: int
) -> None:
    log = opened(tmp_path / "log", content, TINY)
    lines = [naive_line(content, *span, TINY.shown) for span in naive_spans(content, TINY.piece)]
    if not content:
        lines = []
    assert log.last_page(count) == lines[-count:]
    for index, line in enumerate(lines):
        assert log.lines_from(line.start, count) == lines[index : index + count]
        assert log.lines_before(line.start, count) == lines[max(0, index - count) : index]
        for position in range(line.start, line.end):
            assert log.line_start(position) == line.start
    assert log.lines_from(len(content), count) == []


@on_files
@given(content=CONTENT, start=st.integers(0, 120), text=st.sampled_from(["a", "ab", "aa", "é"]))
def test_plain_text_is_found_in_both_directions(
    tmp_path: Path, content: bytes, start: int, text: str
) -> None:
    log = opened(tmp_path / "log", content, TINY)
    expected = naive_hits(content, re.escape(text.encode()), 0, TINY.piece)
    after = all_hits(log.search(SearchTerm(text), Event(), start=start))
    assert after == [hit for hit in expected if hit.offset >= start]
    before = all_hits(log.search(SearchTerm(text), Event(), start=start, direction="backward"))
    assert before == [hit for hit in reversed(expected) if hit.offset < start]


@on_files
@given(
    content=CONTENT,
    start=st.integers(0, 120),
    pattern=st.sampled_from(["a+", "^a", "b$", "[^b]+", "a|x+", r"(?<=a)a", r"\Ba", "a.*b", "b?"]),
)
def test_a_pattern_is_found_within_lines_in_both_directions(
    tmp_path: Path, content: bytes, start: int, pattern: str
) -> None:
    log = opened(tmp_path / "log", content, TINY)
    term = SearchTerm(pattern, is_regex=True)
    expected = naive_hits(content, pattern.encode(), re.MULTILINE, TINY.piece)
    after = all_hits(log.search(term, Event(), start=start))
    assert after == [hit for hit in expected if hit.offset >= start]
    before = all_hits(log.search(term, Event(), start=start, direction="backward"))
    assert before == [hit for hit in reversed(expected) if hit.offset < start]


@on_files
@given(content=CONTENT, block=st.integers(1, 9))
def test_line_numbers_are_those_of_the_newlines(tmp_path: Path, content: bytes, block: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    index = LineIndex(LogBytes(path, TINY), block_bytes=block)
    list(index.count(len(content), Event()))
    assert index.num_bytes == len(content) // block * block
    starts = [0, *[at + 1 for at, byte in enumerate(content) if byte == 10]]
    for number, start in enumerate(starts, start=1):
        assert index.number_of(start) == number
        assert index.offset_of(number, len(content)) == (
            start if start < len(content) or number == 1 else None
        )
    assert index.offset_of(len(starts) + 1, len(content)) is None
    assert index.offset_of(0, len(content)) is None


def test_numbers_are_not_known_before_they_are_counted(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", b"line\n" * 200_000)
    assert log.number_of(900_000) is None
    assert log.position_of(180_001) is None
    assert list(log.count_lines(Event()))[-1] == pytest.approx(0.786432)  # three whole blocks
    assert log.number_of(900_000) == 180_001
    assert log.position_of(180_001) == 900_000


def test_a_stopped_count_goes_on_where_it_was(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", b"line\n" * 200_000)
    stop = Event()
    stop.set()
    assert list(log.count_lines(stop)) == [0.0]
    assert list(log.count_lines(Event()))[-1] > 0.7


def test_case_is_ignored_also_beyond_ascii(tmp_path: Path) -> None:
    content = "Über\nüber\nUBER\n".encode()
    log = opened(tmp_path / "log", content)
    offsets = {
        text: [
            hit.offset for hit in all_hits(log.search(SearchTerm(text, ignore_case=True), Event()))
        ]
        for text in ("über", "BER")
    }
    assert offsets == {"über": [0, 6], "BER": [2, 8, 13]}


def test_a_progress_bar_is_shown_in_its_last_state(tmp_path: Path) -> None:
    bars = b"".join(b"\r%3d%%|####" % share for share in range(101))
    log = opened(tmp_path / "log", b"begin\r\n" + bars + b"\ndone\r\r\n" + b"\r 1%\r 2%\r")
    assert [line.text for line in log.last_page(9)] == ["begin", "100%|####", "done", " 2%"]
    assert [line.is_complete for line in log.last_page(9)] == [True, True, True, False]


def test_a_line_of_a_megabyte_is_clipped_and_the_rest_counted(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", b"before\n" + b"x" * 1_000_000 + b"\nafter\n")
    before, long, after = log.last_page(3)
    assert (before.text, after.text) == ("before", "after")
    assert long.text == "x" * 65_536
    assert long.num_left_out == 1_000_000 - 65_536
    assert long.end - long.start == 1_000_001


def test_an_endless_line_is_read_in_pieces(tmp_path: Path) -> None:
    content = b"first\n" + b"\r0000007/1000000 it/s" * 500_000
    log = opened(tmp_path / "log", content)
    lines = log.last_page(10)
    assert [line.end for line in lines] == [6, 8 << 20, len(content)]
    assert [line.start for line in lines] == [0, 6, 8 << 20]
    assert [lines[0].text, lines[2].text] == ["first", "0000007/1000000 it/s"]
    assert lines == log.lines_from(0, 10)


def test_binary_garbage_is_decoded_line_by_line(tmp_path: Path) -> None:
    content = bytes(range(256)) * 50
    log = opened(tmp_path / "log", content)
    lines = log.lines_from(0, 1000)
    assert len(lines) == 51
    assert lines[0].text == bytes(range(10)).decode()
    assert "\\x80" in lines[1].text
    assert lines[-1].end == len(content)


def test_what_is_written_is_seen_after_a_refresh(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = opened(path, b"one\ntw")
    last = log.last_page(1)[0]
    assert (last.text, last.is_complete) == ("tw", False)
    with path.open("ab") as file:
        file.write(b"o\nthree\n")
    assert log.last_page(1) == [last]
    status = log.refresh()
    assert (status.num_bytes, status.generation) == (14, 1)
    assert [line.text for line in log.lines_from(last.start, 9)] == ["two", "three"]


def test_a_log_that_is_not_there_yet_is_absent_until_it_is(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log")
    assert log.refresh().condition == "absent"
    assert log.last_page(5) == log.lines_from(0, 5) == []
    assert log.position_at(0.5) == log.line_start(9) == 0
    assert all_hits(log.search(SearchTerm("a"), Event())) == []
    (tmp_path / "log").write_bytes(b"here\n")
    assert log.refresh().condition == "present"
    assert log.last_page(5)[0].text == "here"


def test_a_deleted_log_is_still_shown(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", b"kept\n")
    (tmp_path / "log").unlink()
    status = log.refresh()
    assert (status.condition, status.num_bytes, status.generation) == ("deleted", 5, 1)
    assert log.last_page(1)[0].text == "kept"


def test_a_replaced_log_begins_a_new_generation(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", b"old\n" * 50_000)
    list(log.count_lines(Event()))
    (tmp_path / "new").write_bytes(b"new\n")
    (tmp_path / "new").replace(tmp_path / "log")
    status = log.refresh()
    assert (status.condition, status.generation, status.restart) == ("present", 2, "replaced")
    assert log.last_page(9)[0].text == "new"


def test_a_truncated_log_begins_a_new_generation(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", b"a line\n" * 50_000)
    log.last_page(10)
    (tmp_path / "log").write_bytes(b"anew\n")
    assert log.last_page(10) == []  # before anyone looked: nothing, and no exception
    assert log.lines_from(0, 1)
    status = log.refresh()
    assert (status.condition, status.generation, status.restart) == ("present", 2, "truncated")
    assert log.last_page(9)[0].text == "anew"


def test_what_is_no_file_is_unreadable_and_says_so(tmp_path: Path) -> None:
    status = LogFile(tmp_path).refresh()
    assert (status.condition, status.generation) == ("unreadable", 0)
    assert str(tmp_path) in status.problem
    os.mkfifo(tmp_path / "pipe")
    assert LogFile(tmp_path / "pipe").refresh().condition == "unreadable"


def test_a_log_that_becomes_unreadable_recovers(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = opened(path, b"old\n")
    path.unlink()
    path.mkdir()
    assert log.refresh().condition == "unreadable"
    assert log.refresh().condition == "unreadable"
    path.rmdir()
    path.write_bytes(b"new\n")
    status = log.refresh()
    assert (status.condition, status.generation, status.restart) == ("present", 2, "replaced")


def test_a_search_stops_between_steps(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", b"needle\n" * 1_000_000)
    stop = Event()
    batches = log.search(SearchTerm("absent"), stop)
    first = next(batches)
    assert first.hits == ()
    assert 0 < first.position <= 1 << 20
    stop.set()
    assert list(batches) == []


def test_hits_come_in_bounded_batches(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", b"e" * 100_000)
    for direction in ("forward", "backward"):
        batches = list(log.search(SearchTerm("e"), Event(), direction=direction))
        assert max(len(batch.hits) for batch in batches) == 512
        assert sum(len(batch.hits) for batch in batches) == 100_000


def test_a_search_in_a_file_that_is_cut_ends(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", b"needle\n" * 1_000_000)
    batches = log.search(SearchTerm("absent"), Event())
    next(batches)
    os.truncate(tmp_path / "log", 100)
    assert list(batches) == []


@pytest.mark.parametrize("text", ["(", "[a", "a{2,1}"])
def test_a_wrong_pattern_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no pattern"):
        SearchTerm(text, is_regex=True)


def test_an_empty_search_and_one_over_lines_are_refused() -> None:
    with pytest.raises(UsageError, match="nothing to search for"):
        SearchTerm("")
    with pytest.raises(UsageError, match="within lines"):
        SearchTerm("a\nb")


def test_a_pattern_that_explodes_is_given_up_and_other_threads_go_on(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", b"a" * 60 + b"!\n")
    term = SearchTerm(r"(a|a|aa)+(?=\d)b?$", is_regex=True)
    raised: list[UsageError] = []

    def search() -> None:
        try:
            all_hits(log.search(term, Event()))
        except UsageError as error:
            raised.append(error)

    thread = Thread(target=search)
    thread.start()
    turns = 0
    while thread.is_alive():
        thread.join(0.01)
        turns += 1
    assert turns > 10  # the time limit is a second
    assert "takes too long" in str(raised[0])


def test_reading_and_searching_need_little_memory(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", b"a line of a log of some length\n" * (1 << 20))
    tracemalloc.start()
    try:
        log.last_page(100)
        list(log.count_lines(Event()))
        assert all_hits(log.search(SearchTerm("absent", ignore_case=True), Event())) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
