"""Browsing all completions of a run, against a plain reading of its files."""

from __future__ import annotations

import math
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pytest
from halos_backend.errors import CorruptFileError
from halos_backend.records import Completion, Group, PreferencePair, encode_row, write_rows
from halos_backend.store.registry import load_state
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halos_tui.completions.index import CompletionsIndex
from halos_tui.completions.query import (
    EVERYTHING,
    CompletionFilter,
    CompletionQuery,
    Search,
    Selection,
    read_filter,
)
from halos_tui.search_term import SearchTerm
from tests.support.made_run import GROUPS, MadeRun, write_round_files

TEXT = st.text(alphabet='aAbé"\\\n<', max_size=6)
COMPLETIONS = st.builds(
    Completion,
    completion_id=st.sampled_from(["c0", "c1"]),
    text=TEXT,
    token_ids=st.lists(st.integers(0, 99), max_size=4).map(tuple),
    finish_reason=st.sampled_from(["stop", "length"]),
    reward=st.sampled_from([None, -1.0, 0.0, 0.5, 2.0]),
    unscored=st.sampled_from([None, None, "timed out"]),
)
GROUP = st.builds(
    Group,
    prompt_id=st.sampled_from(["p", "q", "r"]),
    prompt=TEXT.map(lambda text: ({"role": "user", "content": text},)),
    prompt_token_ids=st.just((1,)),
    policy_version=st.just(0),
    completions=st.lists(COMPLETIONS, min_size=1, max_size=3).map(tuple),
)
FITS = {
    "len>1": lambda _round, _group, one: len(one.token_ids) > 1,
    "": lambda _round, _group, _one: True,
    "cut:": lambda _round, _group, one: one.finish_reason == "length",
    "-cut:": lambda _round, _group, one: one.finish_reason != "length",
    "unscored:": lambda _round, _group, one: one.unscored is not None,
    "unscored:timed": lambda _round, _group, one: one.unscored == "timed out",
    "id=p": lambda _round, group, _one: group.prompt_id == "p",
    "id:never": lambda _round, _group, _one: False,
    "reward<0.5": lambda _round, _group, one: one.reward is not None and one.reward < 0.5,
    "-reward<0.5": lambda _round, _group, one: one.reward is None or one.reward >= 0.5,
    "reward!=0 len>1": lambda _round, _group, one: (
        one.reward not in (None, 0.0) and len(one.token_ids) > 1
    ),
    "round:2": lambda round, _group, _one: round == 2,
    "-round>=2 tokens=0": lambda round, _group, one: round < 2 and not one.token_ids,
    "text:a": lambda _round, _group, one: "a" in one.text.lower(),
    "-text~^A": lambda _round, _group, one: (
        not any(line.startswith("A") for line in one.text.split("\n"))
    ),
    "prompt:b": lambda _round, group, _one: "b" in group.prompt[0]["content"].lower(),
}
"""What a filter means, said of a round, a group and a completion of it."""
ROUNDS = st.lists(st.lists(GROUP, max_size=4), min_size=1, max_size=3)

on_files = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def run(tmp_path: Path) -> MadeRun:
    return MadeRun(tmp_path)


def labelled(run: MadeRun, rounds: list[list[Group]]) -> None:
    for round, groups in enumerate(rounds, start=1):
        run.whole_round(round)
        write_rows(run.dir.attempt(round, "label", 1).scores, groups)


def update(index: CompletionsIndex) -> None:
    for progress in index.update(load_state(index.run_dir), Event()):
        assert progress.num_bytes_read <= progress.num_bytes


def indexed(run: MadeRun) -> CompletionsIndex:
    index = CompletionsIndex(run.dir)
    update(index)
    return index


def selected(index: CompletionsIndex, typed: str = "", **query: Any) -> list[tuple[int, str, int]]:
    """(round, prompt_id, index in the group) of each, from the last selection."""
    wanted = (read_filter(typed) or EVERYTHING) & query.pop("also", EVERYTHING)
    *_, last = index.select(CompletionQuery(filter=wanted, **query), Event())
    assert last.is_done
    return [(row.round, row.prompt_id, row.index) for row in map(index.row, last.keys) if row]


@on_files
@given(rounds=ROUNDS)
def test_rows_are_those_of_the_files(tmp_path_factory: Any, rounds: list[list[Group]]) -> None:
    run = MadeRun(tmp_path_factory.mktemp("runs"))
    labelled(run, rounds)
    index = indexed(run)
    *_, selection = index.select(CompletionQuery(), Event())
    expected = [
        (round, group, place, completion)
        for round, groups in enumerate(rounds, start=1)
        for group in groups
        for place, completion in enumerate(group.completions)
    ]
    assert index.num_completions == len(expected) == len(selection.keys)
    for key, (round, group, place, completion) in zip(selection.keys, expected, strict=True):
        row = index.row(key)
        assert row is not None
        assert (row.round, row.prompt_id, row.index) == (round, group.prompt_id, place)
        assert (row.reward, row.unscored) == (completion.reward, completion.unscored)
        assert row.num_tokens == len(completion.token_ids)
        assert row.finish_reason == completion.finish_reason
        assert index.group(row.round, row.position) == group
        beside = [index.row(other) for other in index.group_keys(key)]
        assert [other and other.index for other in beside] == list(range(len(group.completions)))


@on_files
@given(
    rounds=ROUNDS,
    wanted=st.none() | st.frozensets(st.integers(1, 3)),
    text=st.none() | st.sampled_from(["a", "A", "é", '"', "b\\", "<"]),
    ignore_case=st.booleans(),
    is_regex=st.booleans(),
    typed=st.sampled_from(list(FITS)),
    order=st.sampled_from(["sampled", "reward", "length"]),
    ascending=st.booleans(),
)
def test_a_query_selects_and_sorts_like_a_plain_reading(
    tmp_path_factory: Any,
    rounds: list[list[Group]],
    wanted: frozenset[int] | None,
    text: str | None,
    ignore_case: bool,
    is_regex: bool,
    typed: str,
    order: Any,
    ascending: bool,
) -> None:
    run = MadeRun(tmp_path_factory.mktemp("runs"))
    labelled(run, rounds)
    pattern = None if text is None else f"[{text[0]}]" + ("\\\\" if text[1:] else "")
    term = None
    if text is not None:
        term = SearchTerm(pattern or "" if is_regex else text, is_regex, ignore_case)

    def has(content: str) -> bool:
        assert text is not None
        return text.lower() in content.lower() if ignore_case else text in content

    found = [
        (round, group, place, completion)
        for round, groups in enumerate(rounds, start=1)
        for group in groups
        for place, completion in enumerate(group.completions)
        if (wanted is None or round in wanted)
        and FITS[typed](round, group, completion)
        and (text is None or has(completion.text) or has(group.prompt[0]["content"]))
    ]
    sign = 1 if ascending else -1
    if order == "reward":
        found.sort(key=lambda entry: _last_if_none(entry[3].reward, sign))
    elif order == "length":
        found.sort(key=lambda entry: sign * len(entry[3].token_ids))
    elif ascending:
        found.reverse()
    assert selected(
        indexed(run),
        typed,
        rounds=wanted,
        also=EVERYTHING if term is None else CompletionFilter(searches=(Search(term),)),
        order=order,
        ascending=ascending,
    ) == [(round, group.prompt_id, place) for round, group, place, _ in found]


def _last_if_none(reward: float | None, sign: int) -> float:
    return math.inf if reward is None else sign * reward


def _unscored(groups: tuple[Group, ...]) -> list[Group]:
    return [
        msgspec.structs.replace(
            group,
            completions=tuple(
                msgspec.structs.replace(entry, reward=None, unscored=None)
                for entry in group.completions
            ),
        )
        for group in groups
    ]


def test_a_round_that_is_sampled_grows_group_by_group(run: MadeRun) -> None:
    run.start_round(1)
    path = run.start_stage(1, "sample").completions
    index = indexed(run)
    assert (index.num_completions, index.rounds) == (0, [])
    first, second = (encode_row(group) for group in _unscored(GROUPS))
    path.write_bytes(first + second[:-20])  # the second is being written
    update(index)
    assert selected(index) == [(1, "beta", 0), (1, "beta", 1)]
    path.write_bytes(first + second)
    update(index)
    assert selected(index, "id:alpha") == [(1, "alpha", 0), (1, "alpha", 1)]
    *_, selection = index.select(CompletionQuery(), Event())
    rows = [index.row(key) for key in selection.keys]
    assert [(row.reward, row.unscored) for row in rows if row] == [(None, None)] * 4
    assert selected(index, "unscored:") == []
    assert index.pairs(1, Event()) == []
    assert index.generation == 0


def test_scores_take_the_place_of_completions(run: MadeRun) -> None:
    run.start_round(1)
    write_rows(run.start_stage(1, "sample").completions, _unscored(GROUPS))
    run.finish_stage(1, "sample")
    index = indexed(run)
    run.start_stage(1, "label")
    update(index)
    assert (index.num_completions, index.generation) == (4, 0)
    run.finish_stage(1, "label")
    write_round_files(run, 1)
    update(index)
    assert (index.num_completions, index.generation) == (4, 1)
    assert selected(index, order="reward") == [
        (1, "alpha", 0),
        (1, "beta", 1),
        (1, "beta", 0),
        (1, "alpha", 1),
    ]
    assert selected(index, "unscored:") == [(1, "alpha", 1)]
    assert selected(index, "cut:") == [(1, "alpha", 1)]


def test_the_attempt_that_counts_is_read(run: MadeRun) -> None:
    run.whole_round(1)
    write_round_files(run, 1)
    run.start_round(2)
    write_rows(run.start_stage(2, "sample", attempt=1).completions, _unscored(GROUPS))
    index = indexed(run)
    assert index.num_completions == 8
    run.fail_stage(2, "sample", "killed", attempt=1)
    again = run.start_stage(2, "sample", attempt=2)
    write_rows(again.completions, _unscored(GROUPS)[:1])
    update(index)
    assert index.num_completions == 6
    assert index.generation == 1
    assert index.row((2 << 32) + 3) is None  # a key of the generation before
    assert index.group_keys((2 << 32) + 3) == []
    assert index.rounds == [1, 2]


def test_a_corrupt_line_is_left_out_and_named(run: MadeRun) -> None:
    labelled(run, [list(GROUPS)])
    path = run.dir.attempt(1, "label", 1).scores
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b'{"prompt_id": 3}\n\xff\xfe garbage\n\n' + second)
    index = indexed(run)
    assert index.num_completions == 4
    assert [row.index for key in _keys(index) if (row := index.row(key))] == [0, 1, 0, 1]
    assert len(index.problems) == 1
    assert f"{path}, line 2: " in index.problems[0]


def _keys(index: CompletionsIndex) -> list[int]:
    *_, selection = index.select(CompletionQuery(), Event())
    return list(selection.keys)


def test_files_that_are_gone_are_an_error_only_when_they_are_needed(run: MadeRun) -> None:
    labelled(run, [list(GROUPS)])
    index = indexed(run)
    run.dir.attempt(1, "label", 1).scores.unlink()
    assert selected(index, order="length")[0] == (1, "beta", 1)
    assert selected(index, "hello") == []
    row = index.row(_keys(index)[0])
    assert row is not None
    with pytest.raises(CorruptFileError, match=r"scores\.jsonl"):
        index.group(row.round, row.position)
    with pytest.raises(CorruptFileError, match="round 7"):
        index.group(7, 0)


def test_the_newest_round_comes_first_and_a_stopped_update_goes_on(run: MadeRun) -> None:
    labelled(run, [list(GROUPS), list(GROUPS)])
    index = CompletionsIndex(run.dir)
    stop = Event()
    state = load_state(run.dir)
    next(index.update(state, stop))
    stop.set()
    assert (index.num_in(1), index.num_in(2)) == (0, 4)
    assert index.rounds == [1, 2], "what is not read yet can be asked for"
    update(index)
    assert index.num_completions == 8
    assert list(index.update(state, Event())) == []  # nothing is due


def test_a_search_for_text_is_cancelled_between_batches(
    run: MadeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halos_tui.completions.query.BATCH_GROUPS", 1)
    labelled(run, [list(GROUPS) * 3])
    stop = Event()
    selections = indexed(run).select(CompletionQuery(filter=read_filter("hello")), stop)
    first = next(selections)
    assert isinstance(first, Selection)
    assert (first.num_searched, first.num_groups, len(first.keys)) == (1, 6, 2)
    assert not first.is_done
    stop.set()
    assert list(selections) == []


@on_files
@given(rounds=ROUNDS, typed=st.sampled_from(["", "-cut:", "len>1", "text:a"]))
def test_the_same_answers_of_a_group_are_folded(
    tmp_path_factory: Any, rounds: list[list[Group]], typed: str
) -> None:
    run = MadeRun(tmp_path_factory.mktemp("runs"))
    labelled(run, rounds)
    index = indexed(run)
    query = CompletionQuery(filter=read_filter(typed) or EVERYTHING, is_folded=True)
    *_, last = index.select(query, Event())
    kept, num_fitting = [], 0
    for round, groups in enumerate(rounds, start=1):
        for group in groups:
            alike: list[Completion] = []
            for place, one in enumerate(group.completions):
                if not FITS[typed](round, group, one):
                    continue
                num_fitting += 1
                if all(_differ(one, other) for other in alike):
                    kept.append((round, group.prompt_id, place))
                alike.append(one)
    rows = [row for row in map(index.row, last.keys) if row]
    assert [(row.round, row.prompt_id, row.index) for row in rows] == kept
    assert last.num_fitting == num_fitting
    if not typed:
        assert sum(row.times for row in rows) == num_fitting


def _differ(one: Completion, other: Completion) -> bool:
    return any(
        getattr(one, name) != getattr(other, name)
        for name in ("text", "reward", "unscored", "finish_reason")
    ) or len(one.token_ids) != len(other.token_ids)


def test_judges_that_never_say_the_same_twice_share_a_reason(run: MadeRun) -> None:
    groups = [
        Group(
            f"p{number}",
            GROUPS[0].prompt,
            (1,),
            0,
            (Completion("c0", "t", (1,), "stop", unscored=f"request {number} timed out"),),
        )
        for number in range(1010)
    ]
    labelled(run, [groups])
    index = indexed(run)
    rows = [index.row(key) for key in _keys(index)]
    assert rows[999] is not None
    assert rows[999].unscored == "request 999 timed out"
    assert rows[1005] is not None
    assert rows[1005].unscored == "another reason; the group's own row has it"


def test_pairs_come_from_the_feedback(run: MadeRun) -> None:
    run.whole_round(1)
    write_round_files(run, 1)
    index = indexed(run)
    (row,) = index.pairs(1, Event())
    assert (row.prompt_id, row.margin, row.derived) == ("beta", 0.5, None)
    pair = index.pair(row)
    assert (pair.chosen.text, pair.rejected.text) == ("hello there you", "hello")
    assert index.pairs(9, Event()) == []


@pytest.mark.parametrize("kind", ["binary", "scalar"])
def test_pairs_of_other_feedback_are_best_against_worst(tmp_path: Path, kind: str) -> None:
    run = MadeRun(tmp_path, feedback=kind, loss="kto" if kind == "binary" else "grpo")
    run.whole_round(1)
    write_round_files(run, 1, kind)
    index = indexed(run)
    (row,) = index.pairs(1, Event())  # alpha has one reward only
    assert (row.prompt_id, row.margin, row.derived) == ("beta", 0.5, (1, 0))
    pair = index.pair(row)
    assert isinstance(pair, PreferencePair)
    assert (pair.chosen.text, pair.reward_chosen) == ("hello there you", 0.75)
    assert (pair.rejected.text, pair.reward_rejected) == ("hello", 0.25)


def test_feedback_that_is_gone_or_corrupt_is_named(run: MadeRun) -> None:
    run.whole_round(1)
    write_round_files(run, 1)
    index = indexed(run)
    path = run.dir.attempt(1, "label", 1).feedback
    path.write_bytes(b"{}\n")
    with pytest.raises(CorruptFileError, match=r"feedback\.jsonl, byte 0"):
        index.pairs(1, Event())
    path.unlink()
    with pytest.raises(CorruptFileError, match=r"feedback\.jsonl"):
        index.pairs(1, Event())


def test_the_index_is_under_a_hundred_bytes_a_completion(run: MadeRun) -> None:
    texts = tuple(
        Completion(f"c{number}", "words " * 20, tuple(range(30)), "stop", reward=0.5)
        for number in range(8)
    )
    groups = [Group(f"prompt-{n:06d}", GROUPS[0].prompt, (1,), 0, texts) for n in range(500)]
    labelled(run, [groups])
    index = indexed(run)
    assert index.num_completions == 4000
    assert index.memory_bytes() / 4000 < 100
