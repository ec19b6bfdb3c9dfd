"""What a judge behind an API costs, and budgets that are not passed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from halos_backend.config.api_judge import ApiJudge, find_api_conflicts
from halos_backend.errors import BudgetSpentError
from halos_backend.events import AttemptFailed

from tests.support.judge_server import JudgeServer, Reply, failure, judge_server
from tests.support.label_fixtures import (
    completion,
    done_summary,
    events,
    group,
    label,
    make_attempt,
    rewards_of,
    run_stage_process,
    warnings,
)

TEMPLATE = "{completion} {answer_format} is what you say"
"""Is twenty-five words with the answer's format and a completion of one word."""
PROMPT_TOKENS, ANSWER_TOKENS = 25, 3
ANSWER = "well then\n" + '{"score":5}'
PRICES = {"input_price": 2.0, "output_price": 10.0}
COST = (2.0 * PROMPT_TOKENS + 10.0 * ANSWER_TOKENS) / 1e6
"""Is that of one answer, by the server's own count of words."""


def always(**reply: Any) -> Callable[[str, int], Reply]:
    return lambda asked, before: Reply(ANSWER, **reply)


def attempt_of(path: Path, server: JudgeServer, num: int, **judge: Any) -> Path:
    rows = [completion(f"c{number}", f"t{number}") for number in range(num)]
    return make_attempt(path, [group("p", rows)], server.judge(template=TEMPLATE, **judge))


def summary_of(path: Path) -> dict[str, Any]:
    assert run_stage_process(path) == 0
    return {name: found for name, found in done_summary(path).items() if "judge" in name}


def test_the_summary_has_tokens_and_cost_of_the_round_and_of_the_run(tmp_path: Path) -> None:
    with judge_server(lambda asked, n: failure(500) if n == 0 else Reply(ANSWER)) as server:
        first = summary_of(attempt_of(tmp_path / "first", server, 4, **PRICES))
        more = attempt_of(tmp_path / "more", server, 6, **PRICES)
        job = msgspec.json.decode((more / "job.json").read_bytes())
        (more / "job.json").write_bytes(msgspec.json.encode({**job, "round": 2}))
        second = summary_of(more)
    assert first == {
        "num_judge_answers": 4,
        "num_judge_reused": 0,
        "num_judge_failed": 4,
        "num_judge_prompt_tokens": 4 * PROMPT_TOKENS,
        "num_judge_answer_tokens": 4 * ANSWER_TOKENS,
        "judge_cost": pytest.approx(4 * COST),
        "judge_cost_so_far": pytest.approx(4 * COST),
    }
    assert (second["num_judge_answers"], second["num_judge_reused"]) == (2, 4)
    assert second["judge_cost"] == pytest.approx(2 * COST)
    assert second["judge_cost_so_far"] == pytest.approx(6 * COST)


def test_without_prices_there_is_no_cost(tmp_path: Path) -> None:
    with judge_server(always()) as server:
        found = summary_of(attempt_of(tmp_path / "attempt", server, 2))
    assert "judge_cost" not in found and found["num_judge_answers"] == 2


def test_tokens_that_the_server_does_not_count_are_the_most_that_they_can_be(
    tmp_path: Path,
) -> None:
    with judge_server(always(has_usage=False)) as server:
        path = attempt_of(tmp_path / "attempt", server, 2, max_answer_tokens=50)
        found = summary_of(path)
    asked = [call["body"]["messages"][0]["content"] for call in server.calls]
    assert found["num_judge_prompt_tokens"] > sum(len(text) for text in asked)
    assert found["num_judge_answer_tokens"] == 2 * 50
    assert any("counted no tokens of 2 answers" in text for text in warnings(path))


@pytest.mark.parametrize(
    ("budget", "least"),
    [({"max_tokens": 3000}, 60), ({"max_cost": 100 * COST, **PRICES}, 60)],
    ids=["tokens", "cost"],
)
def test_a_budget_ends_the_stage_before_it_is_passed_and_more_of_it_goes_on(
    tmp_path: Path, budget: dict[str, Any], least: int
) -> None:
    """A call takes 28 tokens, and some 700 at most: there is room for 82, or 100, less those."""
    with judge_server(always(delay_s=0.005)) as server:
        settings = {"max_answer_tokens": 20, **budget}
        path = attempt_of(tmp_path / "attempt", server, 300, **settings)
        with pytest.raises(BudgetSpentError, match="the judge's budget is spent"):
            label(path)
        paid = server.answered.total()
        if "max_tokens" in budget:
            assert server.num_tokens <= budget["max_tokens"]
        else:
            assert paid * COST <= budget["max_cost"]
        assert paid >= least
        num_calls = len(server.calls)
        with pytest.raises(BudgetSpentError):
            label(attempt_of(tmp_path / "again", server, 300, **settings))
        assert len(server.calls) == num_calls, "nothing is asked that could pass it"
        more = attempt_of(tmp_path / "more", server, 300, max_answer_tokens=20)
        label(more)
    assert rewards_of(more) == [5.0] * 300
    assert server.answered.total() == 300


def test_calls_under_way_at_once_do_not_pass_a_budget_together(tmp_path: Path) -> None:
    """Each takes 420 tokens of the 600 or so that it may: sixteen of them are two thirds of it."""
    with judge_server(always(usage=(400, 20), delay_s=0.02)) as server:
        path = attempt_of(tmp_path / "attempt", server, 60, max_answer_tokens=20, max_tokens=10_000)
        with pytest.raises(BudgetSpentError):
            label(path)
    assert 8_000 < server.num_tokens <= 10_000


def test_a_spent_budget_is_a_cause_of_its_own(tmp_path: Path) -> None:
    with judge_server(always()) as server:
        path = attempt_of(tmp_path / "attempt", server, 1, max_tokens=10, max_answer_tokens=5)
        assert run_stage_process(path) == 1
    (failed,) = [event for event in events(path) if isinstance(event, AttemptFailed)]
    assert failed.cause == "over_budget"
    assert server.calls == []


@pytest.mark.parametrize(
    ("settings", "path", "said"),
    [
        ({"max_cost": 1.0, "max_answer_tokens": 9}, "label.judge.max_cost",
         "label.judge.input_price and label.judge.output_price"),
        ({"max_cost": 1.0, "max_answer_tokens": 9, "input_price": 1.0}, "label.judge.max_cost",
         "without label.judge.output_price"),
        ({"output_price": 1.0}, "label.judge.input_price", "is missing"),
        ({"max_tokens": 99}, "label.judge.max_tokens", "label.judge.max_answer_tokens"),
        ({"max_cost": 1.0, **PRICES}, "label.judge.max_cost", "label.judge.max_answer_tokens"),
    ],
)  # fmt: skip
def test_a_budget_that_cannot_be_kept_is_refused(
    settings: dict[str, Any], path: str, said: str
) -> None:
    judge = ApiJudge(kind="api", model="m", base_url="http://h/v1", **settings)
    ((found, reason),) = find_api_conflicts(judge)
    assert found == path and said in reason


def test_prices_of_nothing_are_prices() -> None:
    settings = {"input_price": 0.0, "output_price": 0.0, "max_cost": 1.0, "max_answer_tokens": 9}
    judge = ApiJudge(kind="api", model="m", base_url="http://h/v1", **settings)
    assert not list(find_api_conflicts(judge))
