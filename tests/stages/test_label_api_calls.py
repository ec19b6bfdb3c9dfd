"""Calls of a judge behind an API, to a server that fails in every way: no answer is lost, none is
paid twice, and no failure becomes a reward.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from halos_backend import clock
from halos_backend.errors import EngineDiedError, StageError
from halos_backend.events import Progressed
from halos_backend.records import encode_row
from halos_backend.stages.label.api.endpoint import retry_after_s
from halos_backend.stages.label.api.pace import Pace
from halos_backend.stages.label.api.paid_answers import PaidAnswers
from halos_backend.store.job import LabelInputs, read_job, write_job
from halos_backend.store.manifest import write_done
from halos_backend.store.run_dir import AttemptDir

from tests.support.judge_server import (
    GONE,
    HALF,
    HANG,
    HTML,
    NO_CHOICE,
    NO_JSON,
    JudgeServer,
    Reply,
    failure,
    judge_server,
)
from tests.support.label_fixtures import (
    completion,
    events,
    group,
    label,
    make_attempt,
    reasons_of,
    rewards_of,
    start_stage,
    warnings,
)
from tests.support.waiting import wait_for

PLAIN = "{completion}"
FAILURES = [
    failure(500), failure(503), failure(429, retry_after="0.02"), failure(408), failure(409),
    failure(502, retry_after_ms="5"), HTML, NO_JSON, NO_CHOICE, HALF, GONE, HANG,
]  # fmt: skip


def score_of(text: str) -> int:
    """The score that the server gives a completion, which is `tN`."""
    return 1 + int(text.split()[0].removeprefix("t")) % 10


def answer(text: str) -> Reply:
    return Reply(json.dumps({"score": score_of(text)}))


def attempt_of(
    path: Path,
    server: JudgeServer,
    num: int,
    *,
    group_size: int = 4,
    earlier: tuple[Path, ...] = (),
    **judge: Any,
) -> Path:
    """An attempt on completions t0, t1, ... of which the judge reads nothing else."""
    rows = [completion(f"c{number}", f"t{number}") for number in range(num)]
    groups = [
        group(f"p{number}", rows[first : first + group_size])
        for number, first in enumerate(range(0, num, group_size))
    ]
    settings = server.judge(**{"template": PLAIN, "response_format": "none", **judge})
    return make_attempt(path, groups, settings, earlier=earlier)


def expected(num: int) -> list[float]:
    return [float(score_of(f"t{number}")) for number in range(num)]


def failing(share: float) -> Callable[[str, int], Reply]:
    """Fails that share of all calls, in each way in turn."""
    calls, ways = itertools.count(), itertools.cycle(FAILURES)

    def reply(text: str, before: int) -> Reply:
        number = next(calls)
        is_failing = int((number + 1) * share) > int(number * share)
        return next(ways) if is_failing else answer(text)

    return reply


def test_of_a_server_that_fails_three_calls_in_ten_every_answer_comes_once(tmp_path: Path) -> None:
    num = 200
    with judge_server(failing(0.3)) as server:
        path = attempt_of(tmp_path / "attempt", server, num, timeout_s=0.3, max_tries=12)
        label(path)
    assert rewards_of(path) == expected(num)
    assert server.answered.total() == num, "no completion is paid twice"
    assert set(server.answered.values()) == {1}
    assert len(server.calls) >= 1.3 * num


@pytest.mark.parametrize("way", FAILURES, ids=lambda way: f"{way.kind}-{way.status}-{way.body}")
def test_a_failed_call_is_made_again(tmp_path: Path, way: Reply) -> None:
    def reply(text: str, before: int) -> Reply:
        return way if before == 0 else answer(text)

    with judge_server(reply) as server:
        path = attempt_of(tmp_path / "attempt", server, 3, timeout_s=0.3)
        label(path)
    assert rewards_of(path) == expected(3)
    assert set(server.asked.values()) == {2} and set(server.answered.values()) == {1}


def test_a_call_that_always_fails_leaves_its_completion_unscored_and_is_asked_for_later(
    tmp_path: Path,
) -> None:
    fails = True

    def reply(text: str, before: int) -> Reply:
        return failure(503, "too busy") if fails and text == "t1" else answer(text)

    with judge_server(reply) as server:
        first = attempt_of(tmp_path / "first", server, 3, max_tries=3)
        label(first)
        assert server.asked["t1"] == 3
        fails = False
        second = attempt_of(tmp_path / "second", server, 3, earlier=(first,))
        label(second)
    assert rewards_of(first) == [1.0, None, 3.0]
    assert reasons_of(first)[1] == "no answer in 3 tries: HTTP 503: too busy"
    assert rewards_of(second) == [1.0, 2.0, 3.0]
    assert dict(server.answered) == {"t0": 1, "t1": 1, "t2": 1}


def test_a_server_that_is_gone_ends_the_stage_and_not_with_rewards(tmp_path: Path) -> None:
    with judge_server(lambda text, before: failure(500, "down")) as server:
        path = attempt_of(tmp_path / "attempt", server, 60, max_tries=2)
        with pytest.raises(EngineDiedError, match="20 questions in a row: HTTP 500: down"):
            label(path)
    assert len(server.calls) <= 2 * (20 + 4 * 16), "it does not go through the whole round"


def test_a_refused_question_is_asked_once_and_unscored(tmp_path: Path) -> None:
    def reply(text: str, before: int) -> Reply:
        return failure(400, "context length exceeded") if text == "t1" else answer(text)

    with judge_server(reply) as server:
        path = attempt_of(tmp_path / "attempt", server, 3)
        label(path)
    assert server.asked["t1"] == 1
    assert rewards_of(path) == [1.0, None, 3.0]
    assert reasons_of(path)[1] == ("the judge's server refused: HTTP 400: context length exceeded")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_ends_the_stage_at_once_and_names_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with judge_server(lambda text, before: failure(status, "bad key sk-secret")) as server:
        path = attempt_of(tmp_path / "attempt", server, 400, api_key_env="MY_KEY", concurrency=4)
        with pytest.raises(StageError, match="refuses the key in MY_KEY") as caught:
            label(path)
    assert "sk-secret" not in str(caught.value)
    assert len(server.calls) <= 8


@pytest.mark.parametrize(
    "reply", [failure(404, "no such model"), failure(402, "no credit")], ids=["404", "402"]
)
def test_what_is_wrong_with_every_call_ends_the_stage_at_once(tmp_path: Path, reply: Reply) -> None:
    with judge_server(lambda text, before: reply) as server:
        path = attempt_of(tmp_path / "attempt", server, 400, concurrency=4)
        with pytest.raises(StageError, match=reply.body["error"]["message"]):
            label(path)
    assert len(server.calls) <= 8


def test_sixteen_calls_at_once_keep_sixteen_in_flight(tmp_path: Path) -> None:
    with judge_server(lambda text, _: Reply('{"score": 5}', delay_s=0.1)) as server:
        path = attempt_of(tmp_path / "attempt", server, 160, group_size=2, concurrency=16)
        begun = time.monotonic()
        label(path)
        elapsed = time.monotonic() - begun
    assert server.most_now == 16
    assert elapsed < 3 * 160 / 16 * 0.1, "calls wait for a place, not for their group"


def test_equal_questions_are_asked_once_in_a_round_and_in_the_next(tmp_path: Path) -> None:
    with judge_server(lambda text, before: answer(text)) as server:
        for name in ("first", "second"):
            rows = [completion(f"{name}{n}", "t4") for n in range(4)]
            path = make_attempt(
                tmp_path / name,
                [group(f"p-{name}", [*rows, completion("x", "t6")])],
                server.judge(template=PLAIN),
            )
            label(path)
            assert rewards_of(path) == [5.0] * 4 + [7.0]
    assert dict(server.answered) == {"t4": 1, "t6": 1}


def test_another_template_model_or_temperature_asks_anew_and_another_pace_does_not(
    tmp_path: Path,
) -> None:
    with judge_server(lambda text, before: answer(text)) as server:
        for number, (change, num_asked) in enumerate(
            [
                ({}, 1),
                ({"concurrency": 2, "max_tries": 9, "api_key_env": "PATH"}, 1),
                ({"template": "{completion} !"}, 2),
                ({"model": "another"}, 3),
                ({"temperature": 0.0}, 4),
                ({}, 4),
            ]
        ):
            label(attempt_of(tmp_path / str(number), server, 1, **change))
            assert len(server.calls) == num_asked


def test_an_answer_that_was_cut_off_is_asked_again_where_more_tokens_are_allowed(
    tmp_path: Path,
) -> None:
    def reply(text: str, before: int) -> Reply:
        return Reply("thinking", finish_reason="length") if before == 0 else answer(text)

    with judge_server(reply) as server:
        few = attempt_of(tmp_path / "few", server, 1, max_answer_tokens=5)
        label(few)
        label(attempt_of(tmp_path / "again", server, 1, max_answer_tokens=5))
        assert server.asked["t0"] == 1
        more = attempt_of(tmp_path / "more", server, 1, max_answer_tokens=50)
        label(more)
    assert rewards_of(few) == [None] and rewards_of(more) == [1.0]


def test_a_killed_attempt_pays_for_no_answer_that_it_had_written_down(tmp_path: Path) -> None:
    num = 120
    with judge_server(lambda text, _: Reply(answer(text).text, delay_s=0.02)) as server:
        first = attempt_of(tmp_path / "first", server, num, concurrency=4)
        process = start_stage(first)
        wait_for(lambda: server.answered.total() >= num // 3, deadline_s=60)
        process.kill()
        process.wait()
        journal = tmp_path / "judge_answers.jsonl"
        known = journal.read_bytes().count(b"\n")
        asked_before = server.asked.copy()
        second = attempt_of(tmp_path / "second", server, num, earlier=(first,))
        label(second)
    assert num // 3 - 4 <= known < num
    assert rewards_of(second) == expected(num)
    again = [text for text, count in server.asked.items() if count > 1]
    assert len(again) <= 4, "at most the calls that were under way are made again"
    assert asked_before.total() - known <= 8


def test_a_torn_line_costs_its_answer_and_no_other(tmp_path: Path) -> None:
    with judge_server(lambda text, before: answer(text)) as server:
        label(attempt_of(tmp_path / "first", server, 4, concurrency=1))
        journal = tmp_path / "judge_answers.jsonl"
        journal.write_bytes(journal.read_bytes()[:-9])
        second = attempt_of(tmp_path / "second", server, 4)
        label(second)
        third = attempt_of(tmp_path / "third", server, 4)
        label(third)
    assert server.answered.total() == 5
    assert rewards_of(second) == rewards_of(third) == expected(4)
    assert any("1 line of judge_answers.jsonl cannot be read" in text for text in warnings(second))


def test_what_two_attempts_would_ask_at_once_is_refused(tmp_path: Path) -> None:
    with judge_server(lambda text, before: answer(text)) as server:
        other = PaidAnswers(tmp_path / "judge_answers.jsonl")
        path = attempt_of(tmp_path / "attempt", server, 1)
        with pytest.raises(StageError, match="another process of the run asks the judge"):
            label(path)
        other.close()
    assert server.calls == []


def test_no_more_calls_begin_in_a_window_than_allowed() -> None:
    begun: list[float] = []

    async def ask(pace: Pace) -> None:
        await pace.admit(1)
        begun.append(clock.monotonic())

    async def all_of_them() -> None:
        pace = Pace(requests=5, window_s=0.2)
        await asyncio.gather(*(ask(pace) for _ in range(14)))

    asyncio.run(all_of_them())
    assert all(later - first >= 0.199 for first, later in zip(begun, begun[5:], strict=False))
    assert begun[-1] - begun[0] < 0.6, "14 of them take two windows"


def test_no_more_tokens_begin_in_a_window_than_allowed_and_a_larger_call_goes_alone() -> None:
    begun: list[tuple[float, int]] = []

    async def ask(pace: Pace, num_tokens: int) -> None:
        await pace.admit(num_tokens)
        begun.append((clock.monotonic(), num_tokens))

    async def all_of_them() -> None:
        pace = Pace(tokens=100, window_s=0.2)
        await asyncio.gather(*(ask(pace, tokens) for tokens in (60, 40, 30, 500, 10)))

    asyncio.run(all_of_them())
    times = [round((t - begun[0][0]) / 0.2) for t, _ in begun]
    assert times == [0, 0, 1, 2, 3]


def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(tmp_path: Path) -> None:
    def reply(text: str, before: int) -> Reply:
        is_first = text == "t0" and before == 0
        return failure(429, retry_after="0.6") if is_first else answer(text)

    with judge_server(reply) as server:
        path = attempt_of(tmp_path / "attempt", server, 8, concurrency=1)
        label(path)
    assert rewards_of(path) == expected(8)
    assert server.begun_t[1] - server.begun_t[0] >= 0.6


def test_a_server_that_asks_to_wait_for_an_hour_ends_the_stage(tmp_path: Path) -> None:
    with judge_server(lambda text, before: failure(429, "quota", retry_after="3600")) as server:
        path = attempt_of(tmp_path / "attempt", server, 1)
        with pytest.raises(StageError, match="asks to wait 3,600 s"):
            label(path)


def test_retry_after_is_seconds_milliseconds_or_a_date() -> None:
    assert retry_after_s({"retry-after": "2.5"}) == 2.5
    assert retry_after_s({"retry-after-ms": "150", "retry-after": "9"}) == 0.15
    assert retry_after_s({"retry-after": "-3"}) == 0.0
    assert retry_after_s({}) is None
    assert retry_after_s({"retry-after": "soon"}) is None
    assert retry_after_s({"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}) == 0.0


def test_progress_counts_answers_while_an_early_one_is_awaited(tmp_path: Path) -> None:
    def reply(text: str, before: int) -> Reply:
        return Reply(answer(text).text, delay_s=2.5 if text == "t0" else 0.0)

    with judge_server(reply) as server:
        path = attempt_of(tmp_path / "attempt", server, 40)
        label(path)
    told = [event.done for event in events(path) if isinstance(event, Progressed)]
    assert 39 in told and told == sorted(told)


def test_judging_goes_on_while_completions_are_sampled(tmp_path: Path) -> None:
    rows = [completion(f"c{number}", f"t{number}") for number in range(16)]
    sample = AttemptDir(tmp_path / "sample")
    sample.path.mkdir()
    with judge_server(lambda text, before: answer(text)) as server:
        path = attempt_of(tmp_path / "attempt", server, 16, group_size=8)
        job = read_job(AttemptDir(path).job)
        growing = LabelInputs(str(sample.completions), num_growing=2)
        write_job(AttemptDir(path).job, msgspec.structs.replace(job, inputs=growing))
        process = start_stage(path)
        with sample.completions.open("wb", buffering=0) as file:
            file.write(encode_row(group("p0", rows[:8])))
            wait_for(lambda: server.answered.total() == 8, deadline_s=60)
            assert not sample.done.exists()
            file.write(encode_row(group("p1", rows[8:])))
        write_done(sample.path, [sample.completions], {})
        assert process.wait(timeout=60) == 0
    assert rewards_of(path) == expected(16)
