"""The completions screen: what it lists, what its page shows, and what its keys do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from halos_backend.records import Completion, Group, PreferencePair, encode_row, write_rows
from textual.screen import Screen

from halos_tui.completions.completion_list import CompletionList
from halos_tui.completions.screen import CompletionsScreen
from halos_tui.screens.base import has_room
from halos_tui.widgets.page_view import PageView
from tests.support.app_fixtures import drive, opened, screen_text, until, until_shown, until_told
from tests.support.made_run import GROUPS, MadeRun, completion, write_round_files
from tests.support.watchdog import Block, Watchdog, drive_unblocked

WIDE = (200, 60)
LONG_TEXT = "\n".join(f"line {number}" for number in range(200))


@pytest.fixture
def run(tmp_path: Path) -> MadeRun:
    return MadeRun(tmp_path / "runs")


def labelled(run: MadeRun, *rounds: int, feedback: str = "pairwise") -> None:
    for round in rounds:
        run.whole_round(round)
        write_round_files(run, round, feedback)


def sampled(run: MadeRun, *groups: Group) -> Path:
    """A first round whose completions are being sampled."""
    run.start_round(1)
    path = run.start_stage(1, "sample").completions
    write_rows(path, groups)
    return path


def group_of(prompt_id: str, *texts: str, **changes: Any) -> Group:
    completions = tuple(
        Completion(f"c{place}", text, (1, 2), "stop") for place, text in enumerate(texts)
    )
    return Group(
        prompt_id, ({"role": "user", "content": "Go on."},), (1,), 3, completions, **changes
    )


def screen_of(run: MadeRun, round: int | None = None) -> Callable[[], Screen[Any]]:
    return lambda: CompletionsScreen(run.dir, round=round)


def shown_at(
    run: MadeRun,
    *texts: str,
    keys: tuple[str, ...] = (),
    size: tuple[int, int] = (80, 24),
    round: int | None = None,
    **options: bool,
) -> str:
    """What the screen shows once it lists something, keys are pressed and all texts are on it."""
    found: list[str] = []

    async def look() -> None:
        root = run.dir.path.parent
        async with opened(screen_of(run, round), root=root, size=size, **options) as (_, pilot):
            if keys:
                await until_shown(pilot, "policy")
            await pilot.press(*keys)
            found.append(await until_shown(pilot, *texts))

    drive(look())
    return found[0]


def rows_in(shown: str) -> list[str]:
    """The beginning of each completion in the list, from the top."""
    starts = ("hello there you", "hello", "three or so", "two")
    _, *lines = shown[shown.index("reward tokens") :].splitlines()
    rows = takewhile(lambda line: line and not line.startswith("─"), lines)
    return [next(start for start in starts if line.endswith(start)) for line in rows]


def test_the_page_has_the_temperature_of_a_completion_where_its_group_has_several(
    run: MadeRun,
) -> None:
    group = group_of("p", "hello", "hello there you")
    pairs = zip(group.completions, (0.7, 1.25), strict=True)
    several = tuple(
        msgspec.structs.replace(completion, temperature=value) for completion, value in pairs
    )
    sampled(run, msgspec.structs.replace(group, completions=several), group_of("q", "hello"))

    shown = shown_at(run, "hello there you", "not scored yet")

    assert "2 tokens  stop  temperature 0.7" in shown
    other = shown_at(run, "temperature 1.25", keys=("j",))
    assert "2 tokens  stop  temperature 1.25" in other


def test_the_newest_round_is_listed_and_its_first_completion_is_a_page(run: MadeRun) -> None:
    labelled(run, 1, 2)

    shown = shown_at(run, "round 2 of 2", "1 of 4", "hello there you", "Be brief.", "chosen")

    lines = [line.split() for line in shown.splitlines()]
    assert ["0.25", "1", "stop", "rejected", "beta", "hello"] in lines
    assert ["0.75", "3", "stop", "chosen", "beta", "hello", "there", "you"] in lines
    assert ["unscored", "3", "cut", "alpha", "three", "or", "so"] in lines
    page = shown[shown.index("beta  round 2") :]
    conversation = [
        "system",
        "Be brief.",
        "user",
        "Say hello.",
        "assistant  reward 0.25",
        "\n  hello",
    ]
    places = [page.index(said) for said in conversation]
    assert places == sorted(places)


def test_rewards_have_their_points_below_each_other(run: MadeRun) -> None:
    labelled(run, 1)

    shown = shown_at(run, "hello there you", "two")

    lines = shown.splitlines()
    start = next(i for i, line in enumerate(lines) if "reward tokens" in line) + 1
    rewards = [line[:8] for line in lines[start : start + 3]]
    assert rewards == ["    0.25", "    0.75", "    1.00"]


def test_a_round_may_be_asked_for(run: MadeRun) -> None:
    labelled(run, 1, 2)

    shown_at(run, "round 1 of 2", "beta  round 1", round=1)


def test_a_round_without_completions_says_so(run: MadeRun) -> None:
    labelled(run, 1)

    shown_at(run, "round 7 of 1  none", round=7)


def test_brackets_step_through_the_rounds_and_a_takes_all(run: MadeRun) -> None:
    labelled(run, 1, 2, 3)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "round 3 of 3", "beta  round 3")
            await pilot.press("left_square_bracket")
            await until_shown(pilot, "round 2 of 3", "beta  round 2")
            await pilot.press("left_square_bracket", "left_square_bracket")
            await until_shown(pilot, "round 1 of 3", "beta  round 1")
            await pilot.press("right_square_bracket")
            await until_shown(pilot, "round 2 of 3", "beta  round 2")
            await pilot.press("a")
            await until_shown(pilot, "all 3 rounds", "of 12")
            await pilot.press("a")
            await until_shown(pilot, "round 3 of 3", "of 4")

    drive(look())


def test_s_sorts_by_reward_and_length_and_shift_s_the_other_way_round(run: MadeRun) -> None:
    labelled(run, 1)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            shown = await until_shown(pilot, "policy 0", "three or so")
            assert rows_in(shown) == ["hello", "hello there you", "two", "three or so"]
            await pilot.press("s")
            shown = await until_shown(pilot, "best first", "1 of 4")
            assert rows_in(shown) == ["two", "hello there you", "hello", "three or so"]
            await pilot.press("S")
            shown = await until_shown(pilot, "worst first", "1 of 4")
            assert rows_in(shown) == ["hello", "hello there you", "two", "three or so"]
            await pilot.press("s", "S")
            shown = await until_shown(pilot, "longest first", "1 of 4")
            assert rows_in(shown) == ["hello there you", "three or so", "hello", "two"]

    drive(look())


@pytest.mark.parametrize("keys", [(), ("down", "down")])
def test_another_order_is_shown_from_its_first_completion(
    run: MadeRun, keys: tuple[str, ...]
) -> None:
    labelled(run, 1)

    shown_at(run, "best first", "1 of 4", "alpha  round 1", "reward 1 ", keys=(*keys, "s"))


def test_the_cursor_stays_on_its_completion_when_a_filter_keeps_it(run: MadeRun) -> None:
    labelled(run, 1)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "1 of 4")
            await pilot.press("end", "slash", *"1 + 1", "enter")
            await until_shown(pilot, "2 of 2", "three or so")
            await pilot.press("slash", *[*["backspace"] * 5, *"hello"], "enter")
            await until_shown(pilot, "1 of 2", "reward 0.25")

    drive(look())


def test_a_filter_without_hits_shows_no_completion(run: MadeRun) -> None:
    labelled(run, 1)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "1 of 4", "Be brief.")
            await pilot.press("slash", *"reward>7", "enter")
            await until_shown(pilot, "nothing fits the filter")
            await until(pilot, lambda: "Be brief." not in screen_text(app))
            assert "hello" not in screen_text(app)
            await pilot.press("y")
            await until_told(pilot, "nothing fits the filter")
            await pilot.press("escape")
            await until_shown(pilot, "of 4", "Be brief.")

    drive(look())


def test_the_title_has_the_prompt_where_there_is_room_for_it(run: MadeRun) -> None:
    labelled(run, 1)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "a-run  round 1 of 1  1 of 4  Say hello.")
            await pilot.press("end")
            await until_shown(pilot, "a-run  round 1 of 1  4 of 4  What is 1 + 1?")
            await pilot.press("s", "slash", *"prompt:what tokens<2", "enter")
            await until_shown(pilot, "best first  filter prompt:what tokens<2")
            assert "What is" not in screen_text(app).splitlines()[0]

    drive(look())


def test_the_same_answers_of_a_group_are_one_row_with_their_number(run: MadeRun) -> None:
    run.whole_round(1)
    answers = [("yes", 0.5), ("no", 0.0), ("yes", 0.5), ("yes", 1.0), ("yes", 0.5)]
    group = msgspec.structs.replace(
        GROUPS[0], completions=tuple(completion(at, *one) for at, one in enumerate(answers))
    )
    other = msgspec.structs.replace(group, prompt_id="other", completions=group.completions[:1])
    label = run.dir.attempt(1, "label", 1)
    write_rows(label.scores, [group, other])
    pair = PreferencePair("beta", group.prompt, (1,), *group.completions[2:0:-1], 0.5, 0.0)
    write_rows(label.feedback, [pair])

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            # one yes has another reward, and the other prompt's yes is not of the group
            shown = await until_shown(pilot, "1 of 4 (6 completions)", "3x yes", "1 token")
            assert shown.count("3x") == 1
            assert "completion 1 of 5, given 3 times" in shown
            row = next(line for line in shown.splitlines() if "3x yes" in line)
            assert "chosen" in row, "one of the three is"
            await pilot.press("down", "down", "g")
            await until_shown(pilot, "3 of 4", "4  assistant  reward 1")
            await pilot.press("up", "up")
            shown = await until_shown(pilot, "1  3x  assistant  reward 0.5", "2  assistant")
            assert "3  assistant" not in shown
            await pilot.press("slash", *"chosen:", "enter")
            await until_shown(pilot, "1 of 1  filter chosen:", "completion", "3x yes")

    drive(look())


@pytest.mark.parametrize(
    "typed, found",
    [
        ("THERE", []),
        ("there", ["hello there you"]),
        ("1 + 1", ["two", "three or so"]),
        ("/^h.*o$", ["hello"]),
        ("/HELLO", []),
    ],
)
def test_a_filter_takes_text_or_a_pattern(run: MadeRun, typed: str, found: list[str]) -> None:
    labelled(run, 1)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "1 of 4", "policy 0")
            await pilot.press("slash", *typed, "enter")
            if not found:
                await until_shown(pilot, "nothing fits the filter")
            else:
                shown = await until_shown(pilot, f"of {len(found)}  filter {typed}", found[-1])
                assert rows_in(shown) == found
            await pilot.press("escape")
            await until_shown(pilot, "of 4")

    drive(look())


def test_a_bad_pattern_is_one_message_beside_it_and_the_list_stays(run: MadeRun) -> None:
    labelled(run, 1)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "1 of 4")
            await pilot.press("slash", *"/(a", "enter")
            shown = await until_shown(pilot, "'(a' is no pattern: missing ) at position 2")
            assert shown.count("no pattern") == 1
            assert "1 of 4" in shown
            await pilot.press("backspace", *"you)")
            await until(pilot, lambda: "no pattern" not in screen_text(app))
            await until_shown(pilot, "1 of 1")
            await pilot.press("escape")
            await until_shown(pilot, "of 4")

    drive(look())


def test_matches_are_marked_on_the_page(run: MadeRun) -> None:
    labelled(run, 1)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "1 of 4")
            await pilot.press("slash", *"there", "enter")
            await until_shown(pilot, "1 of 1")
            await until(pilot, lambda: ("there", "hit") in runs_of(app.screen))

    drive(look())


def runs_of(screen: Screen[Any]) -> list[tuple[str, str]]:
    page = screen.query_one(PageView).shown
    return [] if page is None else [run for line in page.lines for run in line]


def test_only_what_was_cut_off_or_is_unscored(run: MadeRun) -> None:
    labelled(run, 1)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "1 of 4")
            await pilot.press("o")
            await until_shown(pilot, "1 of 1", "only cut off", "cut off (length)")
            await pilot.press("o")
            await until_shown(pilot, "1 of 1", "only unscored", "unscored (the judge said no)")
            await pilot.press("o")
            await until_shown(pilot, "of 4")

    drive(look())


def test_a_group_has_all_completions_of_the_prompt(run: MadeRun) -> None:
    labelled(run, 1)

    shown = shown_at(
        run,
        *("beta  round 1  2 completions", "1  assistant  reward 0.25  1 token  stop  rejected"),
        "2  assistant  reward 0.75  3 tokens  stop  chosen",
        keys=("g",),
    )

    assert shown.count("Be brief.") == 1


def test_the_group_is_shown_from_the_completion_at_the_cursor(run: MadeRun) -> None:
    sampled(run, group_of("p", LONG_TEXT, "the second one", LONG_TEXT + "!"))

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "1 of 3", "line 0")
            await pilot.press("g", "down")
            await until_shown(pilot, "2 of 3", "2  assistant", "the second one")

    drive(look())


def test_a_pair_is_one_above_the_other_where_there_is_little_room(run: MadeRun) -> None:
    labelled(run, 1)

    shown = shown_at(run, "CHOSEN  reward 0.75", "REJECTED  reward 0.25", keys=("d",))

    assert "pair of the feedback  margin 0.5" in shown
    assert shown.index("CHOSEN") < shown.index("hello there you") < shown.index("REJECTED")


def test_a_pair_is_beside_each_other_where_there_is_room(run: MadeRun) -> None:
    labelled(run, 1)

    shown = shown_at(run, "CHOSEN", keys=("d",), size=WIDE)

    line = next(line for line in shown.splitlines() if "CHOSEN" in line)
    assert "REJECTED" in line
    assert any("hello there you" in part and "│ hello" in part for part in shown.splitlines())


def test_the_same_prompt_is_shown_over_the_rounds(run: MadeRun, tmp_path: Path) -> None:
    labelled(run, 1, 2)
    run.whole_round(3)
    answers = (completion(0, "hi", 2.0), completion(1, "hello", 1.0))
    scored = msgspec.structs.replace(GROUPS[0], completions=answers, policy_version=2)
    label = run.dir.attempt(3, "label", 1)
    write_rows(label.scores, [scored])
    write_rows(label.feedback, [])
    run.score_result(round=4)
    held_out = run.dir.attempt(4, "label", 1).scores
    write_rows(held_out, [scored])  # another prompt of the same name

    async def look() -> None:
        screen = screen_of(run, round=3)
        async with opened(screen, root=run.dir.path.parent, size=(100, 50)) as (_, pilot):
            await until_shown(pilot, "round 3 of 3", "policy 2")
            await pilot.press("r")
            shown = await until_shown(
                pilot, "beta  in 3 rounds", "Say hello.", "worst  reward 0.25"
            )
            said = [
                shown.index(text) for text in ("round 1  2", "mean reward 0.50 ±0.25", "round 3  2")
            ]
            assert said == sorted(said)
            assert shown.index("best  reward 2") > said[-1]
            assert shown.count("chosen") == shown.count("final policy") == 0
            path = tmp_path / "out"
            await pilot.press("w", *str(path), "enter")
            await until(pilot, path.exists)
            await until(pilot, lambda: "round 3, worst:\nhello\n" in path.read_text())
            await pilot.press("escape")
            await until_shown(pilot, "beta  round 3  completion 1 of 2")

    drive(look())


def test_a_prompt_of_one_round_says_that_no_other_has_it(run: MadeRun) -> None:
    sampled(run, group_of("p", "one", "two"))

    shown_at(
        run, "p  in 1 round", "no other round has this prompt", "first  not scored", keys=("r",)
    )


def test_words_that_only_one_of_a_pair_has_are_marked(run: MadeRun) -> None:
    labelled(run, 1)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "policy 0")
            await pilot.press("d")
            await until_shown(pilot, "CHOSEN")
            # "hello" against "hello there you"
            marked = [text for text, style in runs_of(app.screen) if style == "differs"]
            assert marked == ["there you"]

    drive(look())


def test_without_pairs_in_the_feedback_the_best_is_compared_with_the_worst(run: MadeRun) -> None:
    run.settings["label"]["feedback"]["kind"] = "binary"
    labelled(run, 1, feedback="binary")

    shown = shown_at(run, "undesirable", "desirable")
    assert "rejected" not in shown
    shown_at(run, "best and worst of the group  margin 0.5", "CHOSEN  reward 0.75", keys=("d",))


def test_a_prompt_without_a_pair_says_so(run: MadeRun) -> None:
    labelled(run, 1)

    shown_at(run, "no pair of the prompt alpha", keys=("end", "d"))


def test_extra_columns_are_shown(run: MadeRun) -> None:
    sampled(run, group_of("p", "said", columns={"answer": "42", "tags": ["a", 1]}))

    shown_at(run, "answer: 42", 'tags: ["a",1]', "not scored yet", "policy 3")


def test_copy_takes_the_text_exactly_and_says_how_much(run: MadeRun) -> None:
    sampled(run, group_of("p", "a\x1b[31m\tb\r\n"))

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "policy 3")
            await pilot.press("y")
            await until_told(pilot, "copied 10 characters")
            assert app.clipboard == "a\x1b[31m\tb\r\n"

    drive(look())


def test_copy_of_a_pair_has_both(run: MadeRun) -> None:
    labelled(run, 1)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "policy 0")
            await pilot.press("d")
            await until_shown(pilot, "CHOSEN")
            await pilot.press("y")
            await until(pilot, lambda: app.clipboard)
            assert app.clipboard == "chosen:\nhello there you\n\nrejected:\nhello\n"

    drive(look())


def test_copy_and_write_without_anything_say_so(run: MadeRun) -> None:
    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "no completions yet")
            await pilot.press("y", "w")
            await until_told(pilot, "nothing to copy yet", "nothing to write yet")

    drive(look())


def test_write_makes_a_file_and_never_overwrites_one_unasked(run: MadeRun, tmp_path: Path) -> None:
    labelled(run, 1)
    path = tmp_path / "out"
    text = "system:\nBe brief.\n\nuser:\nSay hello.\n\nassistant:\nhello\n"

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent, size=(160, 24)) as (app, pilot):
            await until_shown(pilot, "policy 0")
            await pilot.press("w", *str(path), "enter")
            await until_told(pilot, "written to")
            assert path.read_text() == text
            path.write_text("mine")
            await pilot.press("w", *str(path), "enter")
            await until_shown(pilot, "exists; enter overwrites it, escape does not")
            await pilot.press("escape")
            await until(pilot, lambda: "overwrites" not in screen_text(app))
            assert path.read_text() == "mine"
            await pilot.press("w", *str(path), "enter")
            await until_shown(pilot, "overwrites")
            await pilot.press("enter")
            await until(pilot, lambda: path.read_text() == text)

    drive(look())


def test_a_file_that_cannot_be_written_says_why(run: MadeRun, tmp_path: Path) -> None:
    labelled(run, 1)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent, size=(160, 24)) as (_, pilot):
            await until_shown(pilot, "policy 0")
            await pilot.press("w", "enter")
            await until_shown(pilot, "give the path of a file")
            await pilot.press(*str(tmp_path / "no" / "x"), "enter")
            await until_shown(pilot, "cannot write it: No such file or directory")

    drive(look())


def test_the_group_is_written_as_a_whole(run: MadeRun, tmp_path: Path) -> None:
    labelled(run, 1)
    path = tmp_path / "out"

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent, size=(160, 24)) as (_, pilot):
            await until_shown(pilot, "policy 0")
            await pilot.press("g")
            await until_shown(pilot, "2 completions")
            await pilot.press("w", *str(path), "enter")
            await until(pilot, path.exists)
            await until(pilot, lambda: "completion 2:\nhello there you" in path.read_text())

    drive(look())


def test_the_page_scrolls_and_zooms(run: MadeRun) -> None:
    sampled(run, group_of("p", LONG_TEXT, "other"))

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "line 0", "below; J and K scroll")
            await pilot.press("J")
            await until(pilot, lambda: "policy 3" not in screen_text(app))
            await pilot.press("K")
            await until_shown(pilot, "policy 3")
            await pilot.press("enter")
            await until(pilot, lambda: not app.screen.query_one(CompletionList).display)
            await pilot.press("end")
            await until_shown(pilot, "line 199")
            await pilot.press("up", "pageup", "home")
            await until_shown(pilot, "line 0")
            await pilot.press("n")
            await until_shown(pilot, "2 of 2", "other")
            await pilot.press("N")
            await until_shown(pilot, "1 of 2", "line 0")
            await pilot.press("escape")
            await until(pilot, lambda: app.focused is app.screen.query_one(CompletionList))

    drive(look())


def test_a_completion_that_is_too_long_says_how_much_is_left_out(run: MadeRun) -> None:
    sampled(run, group_of("p", "x" * 1_000_000))

    async def look() -> list[Block]:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            with Watchdog() as dog:
                await until_shown(pilot, "xxxx", "policy 3")
                await pilot.press("enter", "end")
                await until_shown(pilot, "900,000 more characters are not shown; a file has")
            return dog.blocks

    drive_unblocked(look)


@pytest.mark.parametrize("is_ascii", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("size", [(80, 24), (110, 30), WIDE, (20, 5), (1, 1), (300, 4)])
@pytest.mark.parametrize("kind", ["", "g", "d", pytest.param("r", marks=pytest.mark.slow)])
def test_every_view_at_every_size(
    run: MadeRun, size: tuple[int, int], kind: str, is_ascii: bool
) -> None:
    labelled(run, 1)

    async def look() -> None:
        root = run.dir.path.parent
        async with opened(screen_of(run), root=root, size=size, is_ascii=is_ascii) as (app, pilot):
            await until(pilot, lambda: app.first.seen is not None)
            if not has_room(size):
                await pilot.resize_terminal(120, 40)
                await until(pilot, lambda: app.screen is app.first)
            if kind:
                await pilot.press(kind)
            await pilot.press("down", "enter", "J", "escape", "slash", "x", "escape")
            await pilot.resize_terminal(120, 40)
            shown = await until_shown(pilot, "CHOSEN" if kind == "d" else "hello")
            panels = "".join(shown.splitlines()[:-1])
            assert not is_ascii or panels.isascii()
            await pilot.resize_terminal(*size)
            await pilot.pause()

    drive(look())


def test_a_live_round_grows_while_one_looks(run: MadeRun) -> None:
    path = sampled(run, group_of("first", "one", "two"))

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "1 of 2", "not scored yet")
            await pilot.press("down")
            with path.open("ab") as file:
                file.write(encode_row(group_of("second", "three")))
            await until_shown(pilot, "2 of 3", "three")
            run.finish_stage(1, "sample")
            label = run.start_stage(1, "label")
            scored = msgspec.structs.replace(GROUPS[0], prompt_id="first")
            write_rows(label.scores, [scored])
            write_rows(label.feedback, [])
            run.finish_stage(1, "label")
            await until_shown(pilot, "2 of 2", "reward 0.75")

    drive(look())


def test_completions_that_come_later_appear(run: MadeRun) -> None:
    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "newest round  no completions yet")
            sampled(run, group_of("first", "one"))
            await until_shown(pilot, "round 1 of 1", "1 of 1", "policy 3")

    drive(look())


def test_a_corrupt_line_is_named_and_left_out(run: MadeRun) -> None:
    labelled(run, 1)
    path = run.dir.attempt(1, "label", 1).scores
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"\x00 rubbish\n" + second)

    shown_at(run, "left out: rounds/0001/label/attempt_1/scores.jsonl, line 2: ", "1 of 4")


def test_corrupt_feedback_is_named_on_the_page(run: MadeRun) -> None:
    labelled(run, 1)
    with run.dir.attempt(1, "label", 1).feedback.open("ab") as file:
        file.write(b"rubbish\n")

    shown_at(run, "feedback.jsonl, line 2: ", "Be brief.", size=WIDE)


def test_a_run_deleted_while_open_is_said_to_be_gone(run: MadeRun) -> None:
    labelled(run, 1)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent, size=WIDE) as (app, pilot):
            await until_shown(pilot, "1 of 4", "policy 0")
            shutil.rmtree(run.dir.path)
            await until_shown(pilot, "is no longer there")
            await pilot.press("down", "end", "g", "d", "y")
            await pilot.pause(0.5)
            assert app.is_running

    drive(look())


def test_a_run_of_a_later_version_says_what_to_do(run: MadeRun) -> None:
    journal = run.dir.events.read_text()
    run.dir.events.write_text(journal.replace('"schema_version":1', '"schema_version":99', 1))

    shown_at(run, "install that version", size=WIDE)


def test_a_pattern_that_takes_too_long_is_given_up(run: MadeRun) -> None:
    sampled(run, group_of("p", "a" * 60 + "b"))

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent, size=WIDE) as (app, pilot):
            await until_shown(pilot, "1 of 1")
            await pilot.press("slash", *"/(a|aa)+$", "enter")
            await until_shown(pilot, "takes too long")
            await pilot.press("escape")
            await until(pilot, lambda: "takes too long" not in screen_text(app).splitlines()[1])
            await until_shown(pilot, "1 of 1")

    drive(look())


def test_many_completions_browse_without_a_pause(run: MadeRun) -> None:
    groups = [
        msgspec.structs.replace(GROUPS[0], prompt_id=f"p{number}") for number in range(10_000)
    ]
    run.whole_round(1)
    label = run.dir.attempt(1, "label", 1)
    write_rows(label.scores, groups)
    write_rows(label.feedback, [])

    async def look() -> list[Block]:
        root = run.dir.path.parent
        async with opened(screen_of(run), root=root, size=WIDE) as (app, pilot):
            with Watchdog() as dog:
                await until_shown(pilot, "of 20,000", "policy 0")
                await pilot.press("end", "pageup", "s", "home", "down", "g", "J", "d", "d")
                await until_shown(pilot, "best first")
                await pilot.press("end")
                await until_shown(pilot, "20,000 of 20,000")
                await pilot.press("slash", *"there", "enter")
                await until_shown(pilot, "of 10,000", "filter there")
                screen = app.screen
                assert isinstance(screen, CompletionsScreen)
                assert screen.seen is not None
                assert len(screen.seen.previews) < 60
            return dog.blocks

    drive_unblocked(look)


def test_the_mouse_chooses_a_completion(run: MadeRun) -> None:
    labelled(run, 1)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "1 of 4")
            await pilot.click(CompletionList, offset=(4, 3))
            await until_shown(pilot, "3 of 4", "alpha  round 1")
            await pilot.click(CompletionList, offset=(4, 0))
            await until_shown(pilot, "3 of 4")

    drive(look())


def test_everything_is_there_with_read_only(run: MadeRun) -> None:
    labelled(run, 1)

    shown_at(run, "2 completions", keys=("g", "o", "o", "o"), read_only=True)


def test_it_can_begin_with_all_completions_of_a_prompt(run: MadeRun) -> None:
    labelled(run, 1, 2)

    async def look() -> None:
        screen = CompletionsScreen(run.dir, round=2, prompt_id="alpha")
        async with opened(lambda: screen, root=run.dir.path.parent, size=WIDE) as (_, pilot):
            await until_shown(pilot, "round 2 of 2", "3 of 4", "What is 1 + 1?", "three or so")
            await pilot.press("home")
            await until_shown(pilot, "1 of 4", "Say hello.")

    drive(look())
