"""Owns the `api` judge: a completion is a question to a language model, and its answer a reward."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait

import msgspec

from halos_backend.config.api_judge import ApiJudge, check_api
from halos_backend.config.consequences import judging
from halos_backend.records import Group
from halos_backend.stages.label.api.calls import Answer, Calls
from halos_backend.stages.label.api.comparing import Pairing
from halos_backend.stages.label.api.endpoint import Endpoint
from halos_backend.stages.label.api.paid_answers import PaidAnswers
from halos_backend.stages.label.api.scoring import Scoring
from halos_backend.stages.label.judge import (
    FLOAT64_ROUNDING,
    Bill,
    LabelRow,
    Outcome,
    Unscored,
    label_rows,
)
from halos_backend.stages.runtime import Attempt
from halos_backend.store.run_dir import RunDir, run_containing

TELL_S = 1.0

Tell = Callable[[], None]
Awaited = Future[Answer] | Unscored


class CalledApi:
    """Is a model behind an API as a judge; it needs no GPU. Equal questions are asked once.

    What it has been told of `ahead` is asked for while the stage waits for more.
    """

    rounding = FLOAT64_ROUNDING

    def __init__(self, judge: ApiJudge, calls: Calls, answers: PaidAnswers, *, round: int) -> None:
        self.engine = f"{judge.model} at {judge.base_url}"
        self.identity = hashlib.sha256(
            msgspec.json.encode(judging(judge.model_dump(mode="json")), order="deterministic")
        ).hexdigest()
        self._judge = judge
        self._asking = Scoring(judge) if judge.compare is None else Pairing(judge, judge.compare)
        self._calls = calls
        self._answers = answers
        self._round = round
        self._num_rows = self._num_asked = 0
        self._open: list[Future[Answer]] = []

    @property
    def num_done(self) -> int:
        """Counts the completions whose answers are there, or will not be: of the rows begun with,
        the share that the answers are of all questions.
        """
        self._open = [future for future in self._open if not future.done()]
        if not self._num_asked:
            return 0
        return self._num_rows * (self._num_asked - len(self._open)) // self._num_asked

    def ahead(self, blocks: Iterator[list[Group]], tell: Tell) -> Iterator[list[Group]]:
        """Yields the blocks, each once its answers are there: so many calls are under way, however
        small a block is. `tell` says now and then how far it is.
        """
        begun = []
        for block in blocks:
            rows = label_rows(block)
            left = {found for found in self._begin(rows) if not isinstance(found, Unscored)}
            self._open.extend(left)
            self._num_rows += len(rows)
            self._num_asked += len(left)
            begun.append((block, left))
        for block, left in begun:
            while left:
                left = wait(left, timeout=TELL_S).not_done
                tell()
            yield block

    def score(
        self, rows: Sequence[LabelRow], known: Mapping[int, float]
    ) -> Iterator[tuple[int, Outcome]]:
        """Reads the answers, those of earlier attempts too. See Judge."""
        del known  # the answers that it is made of are known, and say more
        begun = self._begin(rows)
        answers = [found if isinstance(found, Unscored) else found.result() for found in begun]
        yield from enumerate(self._asking.outcomes(rows, answers))

    def bill(self) -> Bill:
        """Says what the round's answers took, those of its earlier attempts too."""
        spent, tally = self._answers.spent_in(self._round), self._calls.tally
        has_prices = self._judge.input_price is not None
        matches = self._asking.matches if isinstance(self._asking, Pairing) else None
        return Bill(
            num_judge_answers=spent.num_answers,
            num_judge_reused=tally.num_reused,
            num_judge_failed=tally.num_failed,
            num_judge_prompt_tokens=spent.num_prompt_tokens,
            num_judge_answer_tokens=spent.num_answer_tokens,
            judge_cost=spent.cost if has_prices else None,
            judge_cost_so_far=self._answers.run_spent.cost if has_prices else None,
            num_judge_matches=matches.num if matches else None,
            tie_frac=matches.tie_frac if matches else None,
            flip_frac=matches.flip_frac if matches else None,
        )

    def notes(self) -> Iterator[str]:
        """Says what a person should know of the calls."""
        if damaged := self._answers.num_damaged:
            lines = "1 line" if damaged == 1 else f"{damaged} lines"
            yield f"{lines} of judge_answers.jsonl cannot be read: what they held is asked again"
        if estimates := self._answers.num_estimates:
            yield (
                f"the judge's server counted no tokens of {estimates:,} answers: theirs are the"
                " most that they can be"
            )
        if self._calls.has_refused_schema:
            yield (
                "the judge's server takes no JSON schema: answers are read by the pattern"
                " (label.judge.response_format = 'none' says so from the start)"
            )

    def close(self) -> None:
        """Ends the calls; the answers of those under way are still written down."""
        self._calls.close()
        self._answers.close()

    def _begin(self, rows: Sequence[LabelRow]) -> list[Awaited]:
        return [
            question if isinstance(question, Unscored) else self._calls.begin(question)
            for question in self._asking.questions(rows)
        ]


def open_api(attempt: Attempt, judge: ApiJudge) -> CalledApi:
    """Returns the judge, ready to be asked. Raises UsageError, StageError."""
    key = check_api(judge)
    answers = PaidAnswers(RunDir(run_containing(attempt.directory.path)).judge_answers)
    calls = Calls(judge, Endpoint(judge, key), answers, round=attempt.job.round)
    return CalledApi(judge, calls, answers, round=attempt.job.round)
