"""Makes questions about the completions of a block, and rewards of the answers: one by one, because
each has a score of its own. `comparing` does so by comparing them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from halos_backend.config.api_judge import ApiJudge
from halos_backend.stages.label.api.answer import read_scores
from halos_backend.stages.label.api.calls import Answer
from halos_backend.stages.label.api.paid_answers import PaidAnswer
from halos_backend.stages.label.api.question import Question, pointwise_question
from halos_backend.stages.label.judge import LabelRow, Outcome, Unscored


class Scoring:
    """Asks one question about each completion."""

    def __init__(self, judge: ApiJudge) -> None:
        self._judge = judge

    def questions(self, rows: Sequence[LabelRow]) -> list[Question | Unscored]:
        return [pointwise_question(self._judge, row) for row in rows]

    def outcomes(self, _rows: Sequence[LabelRow], answers: Sequence[Answer]) -> Iterator[Outcome]:
        """Yields what each completion is worth, in the order of the rows."""
        for answer in answers:
            text = said(answer)
            yield text if isinstance(text, Unscored) else read_scores(self._judge, text)


def said(answer: Answer) -> str | Unscored:
    """Returns the text of an answer, or why it says nothing."""
    match answer:
        case Unscored():
            return answer
        case PaidAnswer(refusal=str(refusal)) if refusal:
            return Unscored("the judge refused to answer")
        case PaidAnswer(is_cut_off=True):
            return Unscored("the judge's answer was cut off (label.judge.max_answer_tokens)")
        case PaidAnswer(text=text):
            return text
