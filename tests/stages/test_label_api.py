"""The judge behind an API, against a real server: what it reads, what its answers are worth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from halos_backend.errors import StageError, UsageError

from tests.support.judge_server import JudgeServer, Reply, judge_server
from tests.support.label_fixtures import (
    completion,
    group,
    label,
    make_attempt,
    reasons_of,
    rewards_of,
    scores,
    warnings,
)

PLAIN = "{completion}"


def always(text: str, **reply: Any) -> Callable[[str, int], Reply]:
    return lambda asked, before: Reply(text, **reply)


def attempt_of(
    path: Path, server: JudgeServer, texts: list[str], *, columns: Any = None, **judge: Any
) -> Path:
    """An attempt of one prompt's completions with these texts."""
    completions = [completion(f"c{index}", text) for index, text in enumerate(texts)]
    groups = [group("p", completions, content="what is {completion}?", columns=columns)]
    return make_attempt(path / "attempt", groups, server.judge(**judge))


def texts_asked(server: JudgeServer) -> list[str]:
    return sorted(call["body"]["messages"][-1]["content"] for call in server.calls)


def test_a_score_is_the_reward(tmp_path: Path) -> None:
    answers = {"good": Reply('{"score": 9}'), "bad": Reply('{"score": 2.5}')}
    with judge_server(lambda asked, _: answers[asked]) as server:
        path = attempt_of(tmp_path, server, ["good", "bad"], template=PLAIN)
        label(path)
    assert rewards_of(path) == [9.0, 2.5]
    assert [c.components for c in scores(path)[0].completions] == [{"score": 9.0}, {"score": 2.5}]


def test_braces_in_prompts_and_completions_are_text(tmp_path: Path) -> None:
    template = 'Q: {prompt} A: {completion} R: {row.answer} J: {"a": {}} F: {answer_format}'
    with judge_server(always('{"score": 1}')) as server:
        path = attempt_of(
            tmp_path, server, ["{prompt} {0} {"], columns={"answer": "{x}"}, template=template
        )
        label(path)
    (asked,) = texts_asked(server)
    assert asked == (
        'Q: what is {completion}? A: {prompt} {0} { R: {x} J: {"a": {}} F: End with one line that'
        ' is this JSON object and nothing else: {"score": NUMBER}, a number from 1 to 10.'
    )


def test_the_default_template_shows_prompt_completion_criteria_and_scale(tmp_path: Path) -> None:
    criteria = {"clear": {"description": "how clear it is"}, "true": {"description": "is it true"}}
    with judge_server(always('{"clear": 1, "true": 5}')) as server:
        path = attempt_of(
            tmp_path, server, ["an answer"], criteria=criteria, score_min=0, score_max=5
        )
        label(path)
    (asked,) = texts_asked(server)
    for said in ("what is {completion}?", "an answer", "- clear: how clear it is\n- true: is it",
                 "from 0 to 5", '{"clear": NUMBER, "true": NUMBER}'):  # fmt: skip
        assert said in asked


def test_the_reward_is_the_weighted_mean_of_the_criteria(tmp_path: Path) -> None:
    criteria = {
        "clear": {"description": "how clear it is", "weight": 3},
        "true": {"description": "how true it is"},
    }
    with judge_server(always('{"clear": 4, "true": 8}')) as server:
        path = attempt_of(tmp_path, server, ["a"], criteria=criteria)
        label(path)
    assert rewards_of(path) == [5.0]  # (3 * 4 + 8) / 4
    assert scores(path)[0].completions[0].components == {"clear": 4.0, "true": 8.0}


@pytest.mark.parametrize(
    ("answer", "reward"),
    [
        ('{"score": 7}', 7.0),
        ('```json\n{"score": 7}\n```', 7.0),
        ('It is fine.\n{"score": 7}', 7.0),
        ("score: 7", 7.0),
        ("It has 3 faults.\n\n**Score:** 7.5", 7.5),
        ("7", 7.0),
        ('<think>8 or {"score": 9}?</think>\n{"score": 6}', 6.0),
        ('is it 3?</think>{"score": 6}', 6.0),
        ("8/10", None),
        ("score: 8/10", None),
        ('{"score": "8/10"}', None),
        ('{"score": "7"}', None),
        ('{"score": true}', None),
        ('{"score": 11}', None),
        ('{"score": -1}', None),
        ('{"score": 1e400}', None),
        ('{"score": NaN}', None),
        ('{"score": 1' + "0" * 400 + "}", None),
        ("score: 11", None),
        ("score: 3\nscore: 4", None),
        ("I would say 7 of 10.", None),
        ("It deserves a high score.", None),
        ("<html><body>7</body></html>", None),
        ("<think>7, or 8", None),
        ("[7]", None),
        ("null", None),
        ("", None),
    ],
)
def test_what_is_no_clear_score_is_unscored(
    tmp_path: Path, answer: str, reward: float | None
) -> None:
    replies = {"good": Reply('{"score": 5}'), "this": Reply(answer)}
    with judge_server(lambda asked, _: replies[asked.split()[0]]) as server:
        path = attempt_of(tmp_path, server, ["good", "this"], template=PLAIN)
        label(path)
    assert rewards_of(path) == [5.0, reward]
    assert (reasons_of(path)[1] is None) == (reward is not None)
    assert server.answered.total() == 2, "an answer that cannot be read is not asked for again"


def test_an_answer_without_one_of_the_criteria_is_unscored_by_its_name(tmp_path: Path) -> None:
    criteria = {"clear": {"description": "clear"}, "true": {"description": "true"}}
    replies = {"good": Reply("clear: 4\ntrue: 6"), "this": Reply('{"clear": 4}')}
    with judge_server(lambda asked, _: replies[asked.split()[0]]) as server:
        path = attempt_of(tmp_path, server, ["good", "this"], template=PLAIN, criteria=criteria)
        label(path)
    assert rewards_of(path) == [5.0, None]
    assert "the judge gave no true" in (reasons_of(path)[1] or "")


def test_a_cut_off_answer_and_a_refusal_are_unscored(tmp_path: Path) -> None:
    replies = {
        "good": Reply('{"score": 5}'),
        "long": Reply("score: 1", finish_reason="length"),
        "foul": Reply(message={"content": None, "refusal": "I will not"}),
    }
    with judge_server(lambda asked, _: replies[asked.split()[0]]) as server:
        path = attempt_of(tmp_path, server, ["good", "long", "foul"], template=PLAIN)
        label(path)
    assert rewards_of(path) == [5.0, None, None]
    assert "max_answer_tokens" in (reasons_of(path)[1] or "")
    assert "refused" in (reasons_of(path)[2] or "")


def test_a_row_without_the_templates_column_is_unscored_and_costs_nothing(tmp_path: Path) -> None:
    with judge_server(always('{"score": 5}')) as server:
        path = attempt_of(tmp_path, server, ["a"], template="{completion} {row.answer}")
        with pytest.raises(StageError, match="no column 'answer'"):
            label(path)
    assert server.calls == []


def test_the_server_holds_answers_to_a_schema(tmp_path: Path) -> None:
    with judge_server(always('{"score": 5}')) as server:
        label(attempt_of(tmp_path, server, ["a"]))
    schema = server.calls[0]["body"]["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["score"] and schema["additionalProperties"] is False


def test_without_schemas_answers_are_read_by_the_pattern_and_it_is_said_once(
    tmp_path: Path,
) -> None:
    with judge_server(always("score: 5"), takes_schema=False) as server:
        path = attempt_of(tmp_path, server, [f"t{n}" for n in range(8)], concurrency=1)
        label(path)
    assert rewards_of(path) == [5.0] * 8
    assert len(server.calls) == 9, "one call finds out"
    assert [text for text in warnings(path) if "schema" in text] == [
        "the judge's server takes no JSON schema: answers are read by the pattern"
        " (label.judge.response_format = 'none' says so from the start)"
    ]


def test_a_plain_call_asks_for_nothing_that_reasoning_models_refuse(tmp_path: Path) -> None:
    with judge_server(always('{"score": 5}')) as server:
        label(attempt_of(tmp_path, server, ["a"], response_format="none"))
    assert server.calls[0]["body"].keys() == {"model", "messages"}
    assert "authorization" not in server.calls[0]["headers"]


def test_what_is_set_is_sent(tmp_path: Path) -> None:
    asked = {"temperature": 0.0, "reasoning_effort": "low", "max_answer_tokens": 99}
    with judge_server(always('{"score": 5}')) as server:
        label(attempt_of(tmp_path, server, ["a"], **asked))
    body = server.calls[0]["body"]
    assert (body["temperature"], body["reasoning_effort"], body["max_completion_tokens"]) == (
        0.0, "low", 99)  # fmt: skip
    assert "max_tokens" not in body


def test_the_key_comes_from_the_named_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with judge_server(always('{"score": 5}')) as server:
        label(attempt_of(tmp_path, server, ["a"], api_key_env="MY_KEY"))
    assert server.calls[0]["headers"]["authorization"] == "Bearer sk-secret"
    written = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert not any(b"sk-secret" in content for content in written)


def test_a_variable_that_is_not_set_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with judge_server(always("")) as server:
        path = attempt_of(tmp_path, server, ["a"], api_key_env="MY_KEY")
        with pytest.raises(UsageError, match="MY_KEY is not set"):
            label(path)


def test_without_its_client_the_judge_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halos_backend.config.api_judge.PACKAGE", "no_such_client")
    with judge_server(always("")) as server:
        path = attempt_of(tmp_path, server, ["a"])
        with pytest.raises(
            UsageError, match=r"no_such_client is not installed.*halos-tui\[judge\]"
        ):
            label(path)
