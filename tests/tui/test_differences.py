"""What is marked between a chosen and a rejected completion."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from halos_tui.completions.word_diff import Differences, Spans, differences

TEXT = st.lists(st.sampled_from(["one", "two", "onetwo", " ", "\n", "é"]), max_size=30).map("".join)


def without(text: str, spans: Spans) -> list[str]:
    """The words outside the spans."""
    kept, last = "", 0
    for start, end in spans:
        kept, last = f"{kept}{text[last:start]} ", end
    return (kept + text[last:]).split()


def marked(text: str, spans: Spans) -> list[str]:
    return [text[start:end] for start, end in spans]


@given(chosen=TEXT, rejected=TEXT)
def test_what_is_not_marked_is_the_same_in_both(chosen: str, rejected: str) -> None:
    found = differences(chosen, rejected)
    assert without(chosen, found.chosen) == without(rejected, found.rejected)
    for text, spans in ((chosen, found.chosen), (rejected, found.rejected)):
        assert all(start < end <= len(text) for start, end in spans)
        assert list(spans) == sorted(spans)
        assert all(text[start:end] == text[start:end].strip() for start, end in spans)


@given(text=TEXT)
def test_a_text_does_not_differ_from_itself(text: str) -> None:
    assert differences(text, text) == Differences((), ())


def test_whole_words_are_marked() -> None:
    chosen, rejected = "the cat sat here today", "the car sat here, today"
    found = differences(chosen, rejected)
    assert marked(chosen, found.chosen) == ["cat", "here"]
    assert marked(rejected, found.rejected) == ["car", "here,"]


def test_a_word_that_was_added_is_marked_on_one_side_only() -> None:
    found = differences("I will do it", "I will gladly do it")
    assert found == Differences((), ((7, 13),))


def test_long_texts_differ_between_what_both_begin_and_end_with() -> None:
    same = "word " * 50_000
    chosen, rejected = f"{same}red{' x' * 9000} {same}", f"{same}blue {same}"
    found = differences(chosen, rejected)
    assert marked(rejected, found.rejected) == ["blue"]
    ((start, end),) = found.chosen
    assert chosen[start:end] == "red" + " x" * 9000


def test_words_that_repeat_too_often_are_not_compared() -> None:
    chosen, rejected = "no " * 300 + "end", "yes " + "no " * 299 + "stop"
    found = differences(chosen, rejected)
    assert found == Differences(((0, len(chosen)),), ((0, len(rejected)),))
