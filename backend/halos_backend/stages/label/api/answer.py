"""Reads scores from a judge's answer, by a strict pattern: what is not clear is no score. It is
pure.

Elsewhere an answer's first number, or a 0, stands for what could not be read; here it is unscored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from halos_backend.config.api_judge import ApiJudge
from halos_backend.records import BAD_JSON
from halos_backend.stages.label.api.question import VERDICTS
from halos_backend.stages.label.judge import Unscored, Weighed, short_reason

THINKING = re.compile(r"^.*?</(think|thinking|reasoning)>", re.DOTALL)
"""Matches what a reasoning model writes before its answer; its chat template may have opened it."""
OPENED = re.compile(r"^\s*<(think|thinking|reasoning)>")
FENCE = re.compile(r"^```(?:json)?\s*\n(.*)\n```$", re.DOTALL)
NUMBER = r"[+-]?\d+(?:\.\d+)?"
WINNER = rf"^\W*winner\W*[:=]\W*?({'|'.join(VERDICTS)})[\s*_`.\"]*$"
SHOWN = 60
"""Is how many characters of an answer a reason shows."""


def read_scores(judge: ApiJudge, text: str) -> Weighed | Unscored:
    """Returns the weighted mean of the criteria's scores, and each of them; or why there is none.

    An answer is read as a JSON object (all of it, or its last line), else by lines `NAME: NUMBER`,
    one for each criterion; of a single criterion the number alone is enough.
    """
    answer = _after_thinking(text)
    if isinstance(answer, Unscored):
        return answer
    found = _of_json(answer)
    scores = _of_lines(judge, answer) if found is None else found
    missing = [name for name in judge.criteria if name not in scores]
    if missing:
        return Unscored(short_reason(f"the judge gave no {missing[0]}: {_shown(answer)}"))
    return _weighed(judge, {name: scores[name] for name in judge.criteria})


def read_verdict(text: str) -> str | Unscored:
    """Returns which of two completions wins, or `tie`; or why that is not clear.

    An answer is read as a JSON object with `winner`, else by one line `winner: WHO`.
    """
    answer = _after_thinking(text)
    if isinstance(answer, Unscored):
        return answer
    found = _of_json(answer)
    if found is None:
        lines = re.findall(WINNER, answer, re.IGNORECASE | re.MULTILINE)
        verdict = lines[0].lower() if len(lines) == 1 else None
    else:
        verdict = found.get("winner")
    if verdict not in VERDICTS:
        return Unscored(short_reason(f"the judge named no winner: {_shown(answer)}"))
    return str(verdict)


def _after_thinking(text: str) -> str | Unscored:
    if OPENED.match(text) and not THINKING.match(text):
        return Unscored("the judge's answer ends in its thinking")
    return THINKING.sub("", text, count=1).strip() or Unscored("the judge answered nothing")


def _weighed(judge: ApiJudge, scores: Mapping[str, Any]) -> Weighed | Unscored:
    total = weights = 0.0
    for name, score in scores.items():
        if isinstance(score, bool) or not isinstance(score, int | float):
            return Unscored(short_reason(f"the judge's {name} is no number: {_shown(str(score))}"))
        if not judge.score_min <= score <= judge.score_max:
            limits = f"{judge.score_min:g} to {judge.score_max:g}"
            return Unscored(f"the judge's {name} {_shown(str(score))} is not within {limits}")
        total += judge.criteria[name].weight * score
        weights += judge.criteria[name].weight
    return Weighed(total / weights, {name: float(score) for name, score in scores.items()})


def _of_json(answer: str) -> dict[str, Any] | None:
    """Returns the object that the answer is, or that its last line is."""
    fenced = FENCE.match(answer)
    for text in (answer, fenced[1] if fenced else "", answer.splitlines()[-1]):
        try:
            found = msgspec.json.decode(text)
        except (*BAD_JSON, ValueError):
            continue
        if isinstance(found, dict):
            return found
    return None


def _of_lines(judge: ApiJudge, answer: str) -> dict[str, float]:
    """Returns the scores of those criteria that exactly one line names."""
    if len(judge.criteria) == 1 and re.fullmatch(NUMBER, answer):
        return {next(iter(judge.criteria)): float(answer)}
    return dict(_lines(judge, answer))


def _lines(judge: ApiJudge, answer: str) -> Iterator[tuple[str, float]]:
    for name in judge.criteria:
        pattern = rf"^\W*{re.escape(name)}\W*[:=]\W*?({NUMBER})[\s*_`.]*$"
        found = re.findall(pattern, answer, re.IGNORECASE | re.MULTILINE)
        if len(found) == 1:
            yield name, float(found[0])


def _shown(answer: str) -> str:
    line = " ".join(answer.split())
    return repr(line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…")
