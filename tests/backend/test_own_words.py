"""A person's own words about a run: what is written, what is refused, and what damage does."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import pytest
from halos_backend.errors import CorruptFileError, UsageError
from halos_backend.store.own_words import (
    NO_WORDS,
    OwnWords,
    change_own_words,
    read_own_words,
    words_or_problem,
    write_own_words,
)
from halos_backend.store.run_dir import RunDir

WORDS = OwnWords(title="Lower beta", note="collapses at 12", tags=("baseline", "β-0.1"))


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def test_words_are_kept_and_a_run_without_any_has_no_file(run: RunDir) -> None:
    assert read_own_words(run) == NO_WORDS
    write_own_words(run, WORDS)
    assert read_own_words(run) == WORDS
    write_own_words(run, NO_WORDS)
    assert [*run.path.iterdir()] == []


def test_texts_are_on_one_line_and_tags_are_there_once() -> None:
    words = NO_WORDS.with_title(" two\n words ").with_note("").tagged(more=("a", "b", "a"))
    assert words == OwnWords(title="two words", tags=("a", "b"))
    assert words.tagged(more=("c",), fewer=("a", "x")).tags == ("b", "c")


@pytest.mark.parametrize("tag", ["", "two words", "-x", "a:b", "x" * 41, "a\x1b[31m"])
def test_what_is_no_tag_is_refused(tag: str) -> None:
    with pytest.raises(UsageError, match="is no tag"):
        NO_WORDS.tagged(more=(tag,))


def test_what_is_too_much_is_refused() -> None:
    with pytest.raises(UsageError, match="at most 80 characters, and this one 81"):
        NO_WORDS.with_title("x" * 81)
    with pytest.raises(UsageError, match="at most 20 tags"):
        NO_WORDS.tagged(more=tuple(map(str, range(21))))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[1]",
        b"\xff\xfe",
        b'{"title": 5}',
        b'{"tags": ["x", 1]}',
        b'{"note": "',
        b"x" * 70_000,
    ],
)
def test_damage_is_said_and_costs_nothing_but_the_words(run: RunDir, content: bytes) -> None:
    run.own_words.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"own_words\.json: "):
        read_own_words(run)
    words, problem = words_or_problem(run)
    assert words == NO_WORDS
    assert problem.startswith("own_words.json: ")


def test_a_change_leaves_words_that_cannot_be_read_as_they_are(run: RunDir) -> None:
    run.own_words.write_bytes(b'{"note": "half of a no')
    with pytest.raises(CorruptFileError, match="delete it to begin anew"):
        change_own_words(run, lambda words: words.with_title("a title"))
    assert run.own_words.read_bytes() == b'{"note": "half of a no'


def test_a_change_that_begins_during_another_one_keeps_what_that_wrote(run: RunDir) -> None:
    def second() -> None:
        change_own_words(run, lambda words: words.tagged(more=("second",)))

    other = Thread(target=second)

    def first(words: OwnWords) -> OwnWords:
        other.start()
        other.join(0.3)  # without a lock it ends here, and what it wrote is lost
        return words.tagged(more=("first",))

    change_own_words(run, first)
    other.join()
    assert read_own_words(run).tags == ("first", "second")


def test_a_link_is_not_followed(run: RunDir, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text('{"title": "secret"}')
    run.own_words.symlink_to(tmp_path / "elsewhere")
    assert words_or_problem(run)[0] == NO_WORDS


def test_a_place_that_cannot_be_written_is_said(run: RunDir) -> None:
    run.own_words.mkdir()
    with pytest.raises(UsageError, match=r"own_words\.json cannot be written"):
        write_own_words(run, WORDS)
