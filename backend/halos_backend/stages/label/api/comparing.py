"""Makes rewards of comparisons: a completion's is its win rate, over matches within its group.

A match is asked in both orders, since judges favour a place. Where the orders disagree it is a tie,
and counted as a flip. A match without a clear answer is none; a completion without a match is
unscored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from halos_backend.config.api_judge import ApiJudge, Comparing
from halos_backend.stages.label.api.answer import read_verdict
from halos_backend.stages.label.api.calls import Answer
from halos_backend.stages.label.api.question import Question, pair_question
from halos_backend.stages.label.api.scoring import said
from halos_backend.stages.label.judge import LabelRow, Outcome, Unscored, Weighed

Match = tuple[int, int]
"""Names two completions by their places in a block."""
ALONE = Unscored("there is no other completion to compare it with")
OTHER = {"first": "second", "second": "first", "tie": "tie"}


@dataclass
class Matches:
    """Counts matches that were decided, ties among them; and of those asked in both orders the ones
    of which these disagreed.
    """

    num: int = 0
    num_ties: int = 0
    num_twice: int = 0
    num_flips: int = 0

    @property
    def tie_frac(self) -> float | None:
        return self.num_ties / self.num if self.num else None

    @property
    def flip_frac(self) -> float | None:
        return self.num_flips / self.num_twice if self.num_twice else None


@dataclass
class Record:
    """Is how a completion fared; `beaten` are places."""

    points: float = 0.0
    num: int = 0
    beaten: list[int] = field(default_factory=list)
    reason: Unscored = ALONE


class Pairing:
    """Asks which of two completions is better. `matches` counts those of all blocks."""

    def __init__(self, judge: ApiJudge, compare: Comparing) -> None:
        self.matches = Matches()
        self._judge = judge
        self._compare = compare

    def questions(self, rows: Sequence[LabelRow]) -> list[Question | Unscored]:
        return [
            pair_question(self._judge, self._compare, rows[first], rows[second])
            for match in self._asked(rows)
            for first, second in self._orders(match)
        ]

    def outcomes(self, rows: Sequence[LabelRow], answers: Sequence[Answer]) -> Iterator[Outcome]:
        """Yields each completion's win rate, in the order of the rows."""
        remaining = iter(answers)
        records = [Record() for _ in rows]
        asked = set(self._asked(rows))
        for match in self._schedule(rows):
            orders = self._orders(match) if match in asked else ()
            verdict = self._verdict([_verdict_of(next(remaining)) for _ in orders])
            _note(records, match, verdict)
        anchors = _anchors(rows) if self._compare.opponents == "one" else frozenset()
        for place, record in enumerate(records):
            yield _outcome(record, rows, is_anchor=place in anchors)

    def _orders(self, match: Match) -> tuple[Match, ...]:
        return (match, match[::-1]) if self._compare.both_orders else (match,)

    def _schedule(self, rows: Sequence[LabelRow]) -> list[Match]:
        """Returns all matches of a block: within each group, in the order in which they count."""
        found: list[Match] = []
        for places in _groups(rows):
            if self._compare.opponents == "one":
                found += [(place, places[0]) for place in places[1:]]
            else:
                found += tournament(places, self._compare.max_matches)
        return found

    def _asked(self, rows: Sequence[LabelRow]) -> list[Match]:
        """Returns the matches that are asked: equal texts are a tie whoever is asked."""
        return [
            match for match in self._schedule(rows) if rows[match[0]].text != rows[match[1]].text
        ]

    def _verdict(self, verdicts: Sequence[str | Unscored]) -> str | Unscored:
        """Returns what both orders say, as seen from the first of the match; of equal texts none is
        asked.
        """
        for verdict in verdicts:
            if isinstance(verdict, Unscored):
                return verdict
        seen = [str(verdicts[0])] if verdicts else ["tie"]
        if len(verdicts) == 2:
            seen.append(OTHER[str(verdicts[1])])
        agreed = seen[0] if len(set(seen)) == 1 else "tie"
        self.matches.num += 1
        self.matches.num_ties += agreed == "tie"
        self.matches.num_twice += len(seen) == 2
        self.matches.num_flips += len(set(seen)) > 1
        return agreed


def tournament(places: Sequence[int], limit: int | None) -> list[Match]:
    """Returns matches of everyone against everyone, turn by turn by the circle method, so that with
    a limit all have played about as often.
    """
    circle: list[int | None] = [*places, *([None] if len(places) % 2 else [])]
    found: list[Match] = []
    for _ in range(len(circle) - 1):
        half = len(circle) // 2
        for one, other in zip(circle[:half], reversed(circle[half:]), strict=True):
            if one is not None and other is not None:
                found.append((one, other))
        circle = [circle[0], circle[-1], *circle[1:-1]]
    return found[:limit]


def _groups(rows: Sequence[LabelRow]) -> Iterator[list[int]]:
    for _, places in groupby(range(len(rows)), key=lambda place: rows[place].prompt_id):
        yield list(places)


def _anchors(rows: Sequence[LabelRow]) -> frozenset[int]:
    return frozenset(places[0] for places in _groups(rows))


def _verdict_of(answer: Answer) -> str | Unscored:
    text = said(answer)
    return text if isinstance(text, Unscored) else read_verdict(text)


def _note(records: Sequence[Record], match: Match, verdict: str | Unscored) -> None:
    one, other = (records[place] for place in match)
    if isinstance(verdict, Unscored):
        one.reason = other.reason = verdict
        return
    points = {"first": 1.0, "second": 0.0, "tie": 0.5}[verdict]
    for record, won in ((one, points), (other, 1.0 - points)):
        record.points += won
        record.num += 1
    if verdict == "first":
        one.beaten.append(match[1])
    elif verdict == "second":
        other.beaten.append(match[0])


def _outcome(record: Record, rows: Sequence[LabelRow], *, is_anchor: bool) -> Outcome:
    """Returns a win rate. Where all meet one, that one's is 0.5: it is the measure of the others,
    whose win rates are against it.
    """
    if not record.num:
        return record.reason
    beaten = tuple(rows[place].completion_id for place in record.beaten)
    return Weighed(0.5 if is_anchor else record.points / record.num, {}, beaten)
