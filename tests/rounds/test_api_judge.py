"""Whole runs whose judge is behind an API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.judge_server import Reply, failure, judge_server
from tests.support.place import JUDGE as FUNCTIONS
from tests.support.place import Place


def vowels(completion: str) -> float:
    return sum(letter in "aeiou" for letter in completion) / 10


def reply(asked: str, before: int) -> Reply:
    """The score of `judge.py:vowels`; the first call for each completion fails."""
    if before == 0:
        return failure(503)
    return Reply(json.dumps({"score": vowels(asked.removeprefix("A: "))}))


def config_of(place: Place, table: dict[str, Any], **changes: Any) -> str:
    judge = {f"label__judge__{name}": value for name, value in table.items()}
    return str(place.config(label__judge__function=None, **judge, **changes))


@pytest.mark.parametrize("overlaps", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_is_the_run_of_the_function_that_gives_the_same_rewards(
    place: Place, whole: Place, overlaps: bool
) -> None:
    assert "vowels" in FUNCTIONS
    with judge_server(reply) as server:
        table = server.judge(template="A: {completion}", score_min=0.0, score_max=1.0)
        done = place.halos(
            "run", config_of(place, table, loop__overlap=overlaps), "--no-ui", "--name", "asked"
        )
    assert done.code == 0, done.stderr
    assert set(server.answered.values()) == {1}
    assert place.weights("asked") == whole.weights("whole")
    written = (place.runs / "asked" / "judge_answers.jsonl").read_text().splitlines()
    assert len(written) == server.answered.total()


def test_a_judge_that_compares_makes_the_pairs_of_a_round(place: Place) -> None:
    def more_vowels(asked: str, before: int) -> Reply:
        first, second = map(vowels, asked.split(" / "))
        verdict = "first" if first > second else "second" if second > first else "tie"
        return Reply(json.dumps({"winner": verdict}))

    with judge_server(more_vowels) as server:
        table = server.judge()
        changes = {
            "label__judge__compare__template": "{first} / {second}",
            "label__judge__compare__opponents": "all",
            "label__feedback__pairing": "judged",
            "loop__num_rounds": 1,
        }
        done = place.halos("run", config_of(place, table, **changes), "--no-ui", "--name", "asked")
    assert done.code == 0, done.stderr
    rows = (place.runs / "asked/rounds/0001/label/attempt_1/feedback.jsonl").read_text()
    pairs = [json.loads(line) for line in rows.splitlines()]
    assert len(pairs) > 6, "more than one of each prompt"
    for pair in pairs:
        assert vowels(pair["chosen"]["text"]) > vowels(pair["rejected"]["text"])
    assert "0% of the matches flip" in done.stdout


def test_a_key_that_is_refused_fails_the_run_which_goes_on_once_it_is_right(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-live-wrong")

    def guarded(asked: str, before: int) -> Reply:
        is_right = server.calls[-1]["headers"]["authorization"] == "Bearer sk-live-right"
        return reply(asked, 1) if is_right else failure(401, "no such key sk-live-wrong")

    with judge_server(guarded) as server:
        table = server.judge(
            template="A: {completion}", score_min=0.0, score_max=1.0, api_key_env="MY_KEY"
        )
        config = config_of(place, table, loop__num_rounds=1)
        refused = place.halos("run", config, "--no-ui", "--name", "asked")
        monkeypatch.setenv("MY_KEY", "sk-live-right")
        resumed = place.halos("resume", "asked", "--no-ui")
    assert refused.code == 1
    assert "refuses the key in MY_KEY" in refused.stderr
    assert resumed.code == 0, resumed.stderr
    texts = [refused.stdout, refused.stderr, resumed.stdout, resumed.stderr]
    files = [file.read_bytes() for file in place.runs.rglob("*") if file.is_file()]
    assert not any("sk-live" in text for text in texts)
    assert not any(b"sk-live" in content for content in files)


def test_a_spent_budget_pauses_the_run_which_goes_on_with_a_larger_one(
    place: Place, whole: Place
) -> None:
    with judge_server(lambda asked, _: reply(asked, 1)) as server:
        table = server.judge(
            template="A: {completion}", score_min=0.0, score_max=1.0, max_answer_tokens=20
        )
        config = config_of(place, {**table, "max_tokens": 900})
        paused = place.halos("run", config, "--no-ui", "--name", "asked")
        num_paid, spent = server.answered.total(), server.num_tokens
        status = place.halos("status", "asked")
        change = "label.judge.max_tokens=default"
        changed = place.halos("set", "asked", change, "--from-round", "1")
        resumed = place.halos("resume", "asked", "--no-ui")
        after = place.halos("status", "asked")
    assert paused.code == 6, paused.stderr
    assert "label.judge.max_tokens = 900" in status.stdout
    assert 0 < num_paid < 24 and spent <= 900
    assert changed.code == 0, changed.stderr
    assert resumed.code == 0, resumed.stderr
    assert set(server.answered.values()) == {1}
    assert place.weights("asked") == whole.weights("whole")
    assert "judge: " in after.stdout and " tokens" in after.stdout
