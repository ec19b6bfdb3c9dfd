"""Makes the calls of one label attempt, many at once, until each has an answer or a reason.

They are made in a thread with an event loop, so that judging goes on while the stage waits for
completions. Every answer is written down before anybody sees it.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from halos_backend.config.api_judge import ApiJudge
from halos_backend.errors import EngineDiedError, StageError
from halos_backend.stages.label.api.budget import Bound, Budget, cost_of
from halos_backend.stages.label.api.endpoint import ChatCompletion, Declined, Endpoint, Failed
from halos_backend.stages.label.api.pace import Pace
from halos_backend.stages.label.api.paid_answers import PaidAnswer, PaidAnswers
from halos_backend.stages.label.api.question import Question
from halos_backend.stages.label.judge import Unscored

OPEN_PER_CALL = 4
"""Is how many questions are open for each call under way: the others wait to be asked again."""
MOST_LOST = 20
"""Is how many questions in a row may get no answer before the stage gives up."""
LONGEST_DELAY_S = 60.0
LONGEST_WISH_S = 600.0
"""Is the longest retry-after that is waited for."""
BYTES_PER_TOKEN = 4
USUAL_ANSWER_TOKENS = 64
DRAIN_S = 30.0
"""Is how long calls under way may take to end once the stage ends: their answers cost money."""

Answer = PaidAnswer | Unscored


@dataclass
class Tally:
    """Counts what happened to calls; `num_reused` questions had an answer already."""

    num_answers: int = 0
    num_failed: int = 0
    num_reused: int = 0
    num_declined: int = 0
    num_answer_tokens: int = 0


class Calls:
    """Asks questions. `round` is noted with each answer."""

    def __init__(
        self, judge: ApiJudge, endpoint: Endpoint, answers: PaidAnswers, *, round: int
    ) -> None:
        self.tally = Tally()
        self._judge = judge
        self._endpoint = endpoint
        self._answers = answers
        self._round = round
        self._budget = Budget(judge, answers.run_spent)
        self._pace = Pace(judge.requests_per_minute, judge.tokens_per_minute)
        self._under_way = asyncio.Semaphore(judge.concurrency)
        self._open = asyncio.Semaphore(OPEN_PER_CALL * judge.concurrency)
        self._asked: dict[str, Future[Answer]] = {}
        self._failure: BaseException | None = None
        self._num_lost = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    @property
    def has_refused_schema(self) -> bool:
        return self._endpoint.has_refused_schema

    def begin(self, question: Question) -> Future[Answer]:
        """Returns the answer to come; equal questions share one. Raises what ended all calls."""
        self._check()
        if question.key not in self._asked:
            self._asked[question.key] = self._begun(question)
        return self._asked[question.key]

    def close(self) -> None:
        """Begins no more calls, and lets those under way end and be written down."""
        self._failure = self._failure or StageError("the label stage ends")
        self._in_loop(self._drain())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _begun(self, question: Question) -> Future[Answer]:
        known = self._answers.of(question.key, max_tokens=self._judge.max_answer_tokens)
        if known is None:
            return asyncio.run_coroutine_threadsafe(self._answer(question), self._loop)
        self.tally.num_reused += 1
        done: Future[Answer] = Future()
        done.set_result(known)
        return done

    def _in_loop(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _drain(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=min(DRAIN_S, self._judge.timeout_s))
        left = [task for task in others if not task.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._endpoint.close()

    async def _answer(self, question: Question) -> Answer:
        """Asks until there is an answer. Raises what ends all calls; then nothing more is asked."""
        try:
            async with self._open:
                return await self._asked_again(question)
        except (StageError, OSError) as error:  # what cannot be written down must not be asked
            self._failure = self._failure or error
            raise

    async def _asked_again(self, question: Question) -> Answer:
        reason = ""
        for number in range(1, self._judge.max_tries + 1):
            match await self._try(question):
                case PaidAnswer() as answer:
                    self._num_lost = 0
                    return answer
                case Declined(reason=reason):
                    return self._declined(reason)
                case Failed(reason=reason) as failed:
                    self.tally.num_failed += 1
                    if number < self._judge.max_tries:
                        await asyncio.sleep(self._delay_s(failed, number))
        return self._lost(reason)

    async def _try(self, question: Question) -> PaidAnswer | Failed | Declined:
        async with self._under_way:
            self._check()
            bound = self._budget.bound_of(question)
            await self._budget.reserve(bound)
            try:
                begun = await self._pace.admit(self._estimate(question))
                self._check()
                tried = await self._endpoint.ask(question)
                if not isinstance(tried, ChatCompletion):
                    self._slow_down(tried)
                    return tried
                answer = self._paid(question, tried, bound)
                begun.num_tokens = answer.num_prompt_tokens + answer.num_answer_tokens
                self._answers.append(answer)
                self.tally.num_answers += 1
                self.tally.num_answer_tokens += answer.num_answer_tokens
                return answer
            finally:
                self._budget.release(bound)

    def _slow_down(self, tried: Failed | Declined) -> None:
        if isinstance(tried, Failed) and tried.is_busy and tried.after_s is not None:
            self._pace.hold(min(tried.after_s, LONGEST_WISH_S))

    def _paid(self, question: Question, completion: ChatCompletion, bound: Bound) -> PaidAnswer:
        choice, usage = completion.choices[0], completion.usage
        text = choice.message.content or ""
        if usage is None:
            prompt, answer = bound.num_prompt_tokens, max(bound.num_answer_tokens, len(text))
        else:
            prompt, answer = usage.prompt_tokens, usage.completion_tokens
        return PaidAnswer(
            key=question.key,
            text=text,
            round=self._round,
            is_cut_off=choice.finish_reason == "length",
            max_tokens=self._judge.max_answer_tokens,
            refusal=choice.message.refusal,
            num_prompt_tokens=prompt,
            num_answer_tokens=answer,
            is_estimate=usage is None,
            cost=cost_of(self._judge, prompt, answer),
        )

    def _estimate(self, question: Question) -> int:
        """Estimates the tokens of a call, whose answer is like those before it."""
        tally = self.tally
        usual = self._judge.max_answer_tokens or USUAL_ANSWER_TOKENS
        answer = tally.num_answer_tokens // tally.num_answers if tally.num_answers else usual
        return len(question.text.encode()) // BYTES_PER_TOKEN + answer

    def _delay_s(self, failed: Failed, number: int) -> float:
        """Returns the seconds before the next try: jitter keeps calls that failed together apart.

        Raises StageError where the server asks for more than is worth to wait.
        """
        wish = failed.after_s or 0.0
        if wish > LONGEST_WISH_S:
            raise StageError(
                f"the judge's server asks to wait {wish:,.0f} s ({failed.reason})",
                fix="resume the run then",
            )
        own = min(LONGEST_DELAY_S, self._judge.retry_delay_s * 2.0 ** (number - 1))
        return max(wish, own * random.uniform(0.5, 1.0))

    def _declined(self, reason: str) -> Unscored:
        self.tally.num_declined += 1
        if self.tally.num_declined >= MOST_LOST and not self.tally.num_answers:
            raise StageError(f"the judge's server takes no question: {reason}")
        return Unscored(f"the judge's server refused: {reason}", is_error=True)

    def _lost(self, reason: str) -> Unscored:
        self._num_lost += 1
        if self._num_lost >= MOST_LOST:
            raise EngineDiedError(
                f"the judge's server gave no answer to {MOST_LOST} questions in a row: {reason}"
            )
        return Unscored(f"no answer in {self._judge.max_tries} tries: {reason}", is_error=True)
