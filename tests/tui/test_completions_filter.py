"""What a person may type to filter completions: on the screen, and for the verb."""

from __future__ import annotations

from pathlib import Path

import pytest
from halos_backend.errors import UsageError

from halos_tui.completions.query import read_filter
from halos_tui.completions.screen import CompletionsScreen
from tests.support.app_fixtures import drive, opened, until_shown
from tests.support.made_run import MadeRun, write_round_files

THREE_FIELDS = "reward<0 say hello -chosen: len>2"


def test_words_beside_each_other_are_one_text_and_fields_stand_alone() -> None:
    read = read_filter(THREE_FIELDS)

    assert read is not None
    assert [term.source for term in read.terms] == ["reward<0", "-chosen:", "len>2"]
    assert [search.term.text for search in read.searches] == ["say hello"]
    assert read.typed == THREE_FIELDS


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("don't", "don't"),
        ("1 - 1", "1 - 1"),
        ("Answer: 42", "Answer: 42"),
        ("http://x?a=b", "http://x?a=b"),
        ('"reward<0"', "reward<0"),
        ('"-5"', "-5"),
        ("'a  b'", "a  b"),
        ('"not closed', '"not closed'),
        ('text:"a b"', "a b"),
    ],
)
def test_what_is_no_field_is_a_text(typed: str, text: str) -> None:
    read = read_filter(typed)

    assert read is not None
    assert ([search.term.text for search in read.searches], read.terms) == ([text], ())


def test_a_slash_makes_all_of_it_a_pattern() -> None:
    read = read_filter("/len>2 or more")

    assert read is not None
    assert [(one.term.text, one.term.is_regex) for one in read.searches] == [
        ("len>2 or more", True)
    ]


@pytest.mark.parametrize("typed", ["", "  ", "/", '""'])
def test_nothing_yet_is_no_filter(typed: str) -> None:
    assert read_filter(typed) is None


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("rewards<0", "no field 'rewards', did you mean reward?"),
        ("reward<", "needs a value after '<'"),
        ("len:long", "'long' is no number"),
        ("reward~5", "a number has no pattern"),
        ("chosen:yes", "'chosen:' stands alone"),
        ("text=hello", "stand ':' or '~'"),
        ("text~(a", "is no pattern"),
        ('prompt:"a b', "quotation mark that is not closed"),
    ],
)
def test_nonsense_is_refused_with_a_reason(typed: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_filter(typed)

    assert said in str(refused.value)


def made(runs: Path, *, num_rounds: int = 1) -> MadeRun:
    run = MadeRun(runs)
    for round in range(1, num_rounds + 1):
        run.whole_round(round)
        write_round_files(run, round)
    return run


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("reward<0.5", ["1 of 1  filter reward<0.5", "beta  round 1", "reward 0.25"]),
        ("chosen:", ["1 of 1", "hello there you", "reward 0.75  3 tokens  stop  chosen"]),
        ("-chosen: -rejected:", ["1 of 2", "alpha  round 1", "What is 1 + 1?"]),
        ("text~^h.*o$", ["1 of 1", "reward 0.25"]),
        ("prompt:hello len>2", ["1 of 1", "hello there you"]),
    ],
)
def test_fields_filter_the_list(tmp_path: Path, typed: str, shown: list[str]) -> None:
    run = made(tmp_path / "runs")

    async def look() -> None:
        screen = CompletionsScreen(run.dir)
        async with opened(lambda: screen, root=run.dir.path.parent, size=(100, 30)) as (_, pilot):
            await until_shown(pilot, "1 of 4")
            await pilot.press("slash", *typed, "enter")
            await until_shown(pilot, *shown)
            await pilot.press("escape")
            await until_shown(pilot, "of 4")

    drive(look())


def test_a_filter_about_rounds_is_one_of_all_rounds(tmp_path: Path) -> None:
    run = made(tmp_path / "runs", num_rounds=3)

    async def look() -> None:
        screen = CompletionsScreen(run.dir)
        async with opened(lambda: screen, root=run.dir.path.parent, size=(100, 30)) as (_, pilot):
            await until_shown(pilot, "round 3 of 3", "1 of 4")
            await pilot.press("slash", *"round<3 rejected:", "enter")
            await until_shown(pilot, "all 3 rounds", "1 of 2", "beta  round 1", "reward 0.25")
            await pilot.press("escape")
            await until_shown(pilot, "round 3 of 3", "of 4")

    drive(look())


def test_feedback_that_cannot_be_read_is_named_when_it_is_filtered_by(tmp_path: Path) -> None:
    run = made(tmp_path / "runs")
    run.dir.attempt(1, "label", 1).feedback.write_bytes(b"rubbish\n")

    async def look() -> None:
        screen = CompletionsScreen(run.dir)
        async with opened(lambda: screen, root=run.dir.path.parent, size=(160, 30)) as (_, pilot):
            await until_shown(pilot, "1 of 4")
            await pilot.press("slash", *"chosen:", "enter")
            await until_shown(
                pilot,
                "nothing fits the filter",
                "left out: rounds/0001/label/attempt_1/feedback.jsonl, line 1: ",
            )

    drive(look())
