"""Keeps a run within its budget for answers: a call begins only where the most that it may take is
left.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec

from halos_backend.config.api_judge import ApiJudge
from halos_backend.errors import BudgetSpentError
from halos_backend.stages.label.api.paid_answers import Spent
from halos_backend.stages.label.api.question import Question, answer_schema

PER_PRICE = 1_000_000
OVERHEAD_TOKENS = 256
"""Is what a server may put around a question: a chat template, a system message of its own."""


@dataclass(frozen=True)
class Bound:
    """Is the most that a call may take. A token is a byte of text at least."""

    num_prompt_tokens: int
    num_answer_tokens: int
    cost: float

    @property
    def num_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_answer_tokens


class Budget:
    """Lets calls begin while their bounds fit into what is left; `spent` grows as answers come."""

    def __init__(self, judge: ApiJudge, spent: Spent) -> None:
        self._judge = judge
        self._spent = spent
        self._schema_bytes = len(msgspec.json.encode(answer_schema(judge)))
        self._reserved: list[Bound] = []
        self._freed = asyncio.Event()

    def bound_of(self, question: Question) -> Bound:
        prompt = len(question.text.encode()) + self._schema_bytes + OVERHEAD_TOKENS
        answer = self._judge.max_answer_tokens or 0
        return Bound(prompt, answer, cost_of(self._judge, prompt, answer) or 0.0)

    async def reserve(self, bound: Bound) -> None:
        """Waits until the call fits, or raises BudgetSpentError where it would not even alone."""
        while (reason := self._why_not(bound)) is not None:
            if not self._reserved:
                raise BudgetSpentError(
                    f"the judge's budget is spent: {reason}",
                    fix="raise it with halos-tui set, then resume the run",
                )
            self._freed.clear()
            await self._freed.wait()
        self._reserved.append(bound)

    def release(self, bound: Bound) -> None:
        """Ends a call, whose answer is in `spent` by now."""
        self._reserved.remove(bound)
        self._freed.set()

    def _why_not(self, bound: Bound) -> str | None:
        judge, spent = self._judge, self._spent
        tokens = sum(other.num_tokens for other in self._reserved) + bound.num_tokens
        if judge.max_tokens is not None and spent.num_tokens + tokens > judge.max_tokens:
            return (
                f"{spent.num_tokens:,} of label.judge.max_tokens = {judge.max_tokens:,} are taken,"
                f" and the next call may take {bound.num_tokens:,}"
            )
        cost = sum(other.cost for other in self._reserved) + bound.cost
        if judge.max_cost is not None and spent.cost + cost > judge.max_cost:
            return (
                f"{spent.cost:.4g} of label.judge.max_cost = {judge.max_cost:g} are paid, and the"
                f" next call may cost {bound.cost:.4g}"
            )
        return None


def cost_of(judge: ApiJudge, num_prompt_tokens: int, num_answer_tokens: int) -> float | None:
    """Returns the cost by the prices of a million tokens; None without prices."""
    if judge.input_price is None or judge.output_price is None:
        return None
    paid = num_prompt_tokens * judge.input_price + num_answer_tokens * judge.output_price
    return paid / PER_PRICE
