"""A judge behind an API that compares: both orders, ties, flips, tournaments, and what becomes of
its verdicts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from halos_backend.config.load import parse_settings
from halos_backend.errors import SettingsError
from halos_backend.records import PreferencePair, read_rows
from halos_backend.stages.label.api.comparing import tournament
from halos_backend.store.run_dir import AttemptDir

from tests.support.judge_server import JudgeServer, Reply, failure, judge_server
from tests.support.label_fixtures import (
    completion,
    done_summary,
    group,
    label,
    make_attempt,
    reasons_of,
    rewards_of,
    run_stage_process,
    scores,
)

TEMPLATE = "{first} or {second}"


def says(verdict: Callable[[str, str], str]) -> Callable[[str, int], Reply]:
    """A judge that is asked `A or B`, and answers what `verdict(A, B)` says."""

    def reply(asked: str, before: int) -> Reply:
        return Reply(json.dumps({"winner": verdict(*asked.split(" or "))}))

    return reply


def longer(first: str, second: str) -> str:
    order = (len(first) > len(second)) - (len(first) < len(second))
    return {1: "first", -1: "second", 0: "tie"}[order]


def attempt_of(
    path: Path, server: JudgeServer, texts: list[str], *, pairing: str = "judged", **compare: Any
) -> Path:
    rows = [completion(f"c{number}", text) for number, text in enumerate(texts)]
    judge = server.judge(compare={"template": TEMPLATE, **compare})
    feedback = {"kind": "pairwise", "pairing": pairing}
    return make_attempt(path / "attempt", [group("p", rows)], judge, feedback=feedback)


def pairs_of(path: Path) -> list[tuple[str, str]]:
    rows = read_rows(AttemptDir(path).feedback, PreferencePair)
    return [(row.chosen.completion_id, row.rejected.completion_id) for row in rows]


def test_all_meet_the_first_in_both_orders(tmp_path: Path) -> None:
    with judge_server(says(longer)) as server:
        path = attempt_of(tmp_path, server, ["bbb", "cccc", "a", "eee"])
        label(path)
    asked = sorted(server.asked)
    assert asked == sorted(
        f"{one} or {other}"
        for text in ("cccc", "a", "eee")
        for one, other in ((text, "bbb"), ("bbb", text))
    )
    assert rewards_of(path) == [0.5, 1.0, 0.0, 0.5]
    assert sorted(pairs_of(path)) == [("c0", "c2"), ("c1", "c0")]
    assert [entry.beats for entry in scores(path)[0].completions] == [("c2",), ("c0",), (), ()]


def test_a_judge_that_favours_a_place_ties_everything_and_it_is_counted(tmp_path: Path) -> None:
    with judge_server(says(lambda first, second: "first")) as server:
        path = attempt_of(tmp_path, server, ["a", "bb", "ccc"], opponents="all")
        assert run_stage_process(path) == 0
    summary = done_summary(path)
    assert rewards_of(path) == [0.5, 0.5, 0.5]
    assert (summary["num_judge_matches"], summary["flip_frac"], summary["tie_frac"]) == (3, 1, 1)
    assert pairs_of(path) == []


def test_one_order_is_asked_where_that_is_set_and_no_flip_is_counted(tmp_path: Path) -> None:
    with judge_server(says(lambda first, second: "first")) as server:
        path = attempt_of(tmp_path, server, ["a", "bb"], both_orders=False)
        assert run_stage_process(path) == 0
    assert sorted(server.asked) == ["bb or a"]
    assert rewards_of(path) == [0.5, 1.0]
    assert "flip_frac" not in done_summary(path)


def test_a_win_in_one_order_and_a_tie_in_the_other_is_a_tie_and_a_flip(tmp_path: Path) -> None:
    def verdict(first: str, second: str) -> str:
        return "first" if first == "bb" else "tie"

    with judge_server(says(verdict)) as server:
        path = attempt_of(tmp_path, server, ["a", "bb"])
        assert run_stage_process(path) == 0
    assert rewards_of(path) == [0.5, 0.5]
    assert done_summary(path)["flip_frac"] == 1


def test_win_rates_are_over_all_matches_and_become_rewards(tmp_path: Path) -> None:
    with judge_server(says(longer)) as server:
        path = attempt_of(
            tmp_path, server, ["bb", "dddd", "a", "ee"], opponents="all", pairing="max"
        )
        label(path)
    assert rewards_of(path) == [0.5, 1.0, 0.0, 0.5]  # of 3 matches: 1 + a tie, 3, 0, 1 + a tie
    assert pairs_of(path) == [("c1", "c2")]
    assert server.asked.total() == 6 * 2


def test_a_judge_that_goes_in_circles_makes_its_own_pairs(tmp_path: Path) -> None:
    beats = {("a", "b"), ("b", "c"), ("c", "a")}

    def verdict(first: str, second: str) -> str:
        return "first" if (first, second) in beats else "second"

    with judge_server(says(verdict)) as server:
        path = attempt_of(tmp_path, server, ["a", "b", "c"], opponents="all")
        label(path)
    assert rewards_of(path) == [0.5, 0.5, 0.5]
    assert sorted(pairs_of(path)) == [("c0", "c1"), ("c1", "c2"), ("c2", "c0")]


def test_equal_texts_are_a_tie_that_nobody_is_asked_about(tmp_path: Path) -> None:
    with judge_server(says(longer)) as server:
        path = attempt_of(tmp_path, server, ["a", "a", "bb"])
        label(path)
    assert rewards_of(path) == [0.5, 0.5, 1.0]
    assert sorted(server.asked) == ["a or bb", "bb or a"]


@pytest.mark.parametrize(
    "answer",
    ["the first", '{"winner": "a"}', '{"winner": true}', "winner: first\nwinner: tie", "", "[1]"],
)
def test_a_verdict_that_is_not_clear_is_no_match(tmp_path: Path, answer: str) -> None:
    def reply(asked: str, before: int) -> Reply:
        return Reply(answer) if "ccc" in asked else says(longer)(asked, before)

    with judge_server(reply) as server:
        path = attempt_of(tmp_path, server, ["a", "bb", "ccc"])
        label(path)
    assert rewards_of(path) == [0.5, 1.0, None]
    assert (reasons_of(path)[2] or "").startswith("the judge ")


def test_lines_and_thinking_are_read(tmp_path: Path) -> None:
    answers = {
        "bb or a": "<think>winner: second</think>**Winner:** first",
        "a or bb": "winner: second",
    }
    with judge_server(lambda asked, _: Reply(answers[asked])) as server:
        path = attempt_of(tmp_path, server, ["a", "bb"])
        label(path)
    assert rewards_of(path) == [0.5, 1.0]


def test_a_match_whose_call_fails_is_none_and_not_a_loss(tmp_path: Path) -> None:
    def reply(asked: str, before: int) -> Reply:
        return failure(500) if asked == "a or ccc" else says(longer)(asked, before)

    with judge_server(reply) as server:
        path = attempt_of(tmp_path, server, ["a", "bb", "ccc"])
        label(path)
    assert rewards_of(path) == [0.5, 1.0, None]
    assert "no answer in 8 tries" in (reasons_of(path)[2] or "")


def test_a_group_of_one_has_nobody_to_meet(tmp_path: Path) -> None:
    with judge_server(says(longer)) as server:
        rows = [[completion("c0", "a")], [completion("c1", "bb"), completion("c2", "c")]]
        groups = [group(f"p{number}", row) for number, row in enumerate(rows)]
        judge = server.judge(compare={"template": TEMPLATE})
        path = make_attempt(tmp_path / "attempt", groups, judge)
        label(path)
    assert rewards_of(path) == [None, 0.5, 0.0]


@pytest.mark.parametrize("size", [2, 3, 4, 5, 8])
def test_a_whole_tournament_is_everyone_against_everyone_once(size: int) -> None:
    matches = tournament(range(size), None)
    assert sorted(tuple(sorted(match)) for match in matches) == list(combinations(range(size), 2))


@pytest.mark.parametrize(("size", "limit"), [(8, 4), (8, 8), (8, 12), (5, 4), (6, 7)])
def test_a_bounded_tournament_lets_all_play_about_as_often(size: int, limit: int) -> None:
    matches = tournament(range(size), limit)
    played = Counter(place for match in matches for place in match)
    assert len(matches) == limit
    assert max(played.values()) - min(played[place] for place in range(size)) <= 2 - (size % 2 == 0)


def test_max_matches_bounds_the_calls(tmp_path: Path) -> None:
    texts = ["a", "bb", "ccc", "dddd"]
    with judge_server(says(longer)) as server:
        path = attempt_of(tmp_path, server, texts, opponents="all", max_matches=2)
        label(path)
    assert server.asked.total() == 2 * 2
    assert sorted(reward or 0.0 for reward in rewards_of(path)) == [0.0, 0.0, 1.0, 1.0]


def test_the_default_template_shows_both_and_nothing_is_paid_twice(tmp_path: Path) -> None:
    with judge_server(lambda asked, _: Reply('{"winner": "tie"}')) as server:
        rows = [completion("c0", "an answer"), completion("c1", "another")]
        for name in ("first", "second"):
            path = make_attempt(
                tmp_path / name, [group("p", rows, content="what?")], server.judge(compare={})
            )
            label(path)
    asked = [call["body"]["messages"][0]["content"] for call in server.calls]
    assert len(asked) == len(set(asked)) == 2
    for text in asked:
        assert all(said in text for said in ("what?", "an answer", "another", '"winner"'))


BASE = {
    "policy": {"path": "p"},
    "prompts": {"path": "q"},
    "train": {"loss": {"kind": "dpo"}},
}
API = {"kind": "api", "model": "m", "base_url": "http://h/v1"}


@pytest.mark.parametrize(
    ("judge", "feedback", "path"),
    [
        ({"compare": {"template": "{first}"}}, {}, "label.judge.compare.template"),
        ({"compare": {"template": "{first} {second} {completion}"}}, {},
         "label.judge.compare.template"),
        ({"compare": {}, "score_max": 5.0}, {}, "label.judge.score_max"),
        ({"compare": {}, "template": "{completion}"}, {}, "label.judge.template"),
        ({"compare": {}, "criteria": {"a": {"description": "b", "weight": 2}}}, {},
         "label.judge.criteria.a.weight"),
        ({"compare": {"max_matches": 3}}, {}, "label.judge.compare.max_matches"),
        ({}, {"pairing": "judged"}, "label.feedback.pairing"),
        ({"compare": {}}, {"pairing": "judged", "threshold": 0.5}, "label.feedback.threshold"),
    ],
)  # fmt: skip
def test_what_has_no_effect_is_refused(
    judge: dict[str, Any], feedback: dict[str, Any], path: str
) -> None:
    label_table = {"judge": API | judge, "feedback": {"kind": "pairwise", **feedback}}
    with pytest.raises(SettingsError) as caught:
        parse_settings(BASE | {"label": label_table}, source="here")
    assert [found for found, _ in caught.value.problems] == [path]
