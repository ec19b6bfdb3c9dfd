"""Lays completions out as pages: one with its prompt, a whole group, or chosen beside rejected.

Pure, and slow for long texts: it belongs into a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from math import sqrt
from statistics import fmean, stdev

import msgspec
from halos_backend.records import Completion, Group, Message, PreferencePair, text_of
from halos_backend.store.own_words import NO_MARKS, Key, OwnMark, OwnMarks

from halos_tui.completions.round_rows import (
    Mark,
    Marks,
    alike,
    components_of,
    num_tokens,
    penalty_of,
)
from halos_tui.completions.view import OfRound
from halos_tui.completions.word_diff import differences
from halos_tui.formatting import count, measured, measured_in_ascii, number, plural
from halos_tui.search_term import SearchTerm
from halos_tui.text_layout import Line, Page, Run, Span, laid_out, marked, num_cells

MOST_CHARACTERS = 100_000
"""A text shows at most so many characters; what is written to a file has all of it."""
ONE_ROUND = "no other round has this prompt; with loop.num_epochs above 1 prompts come again"
SIDE_BY_SIDE = 90
"""From this width on both stand beside each other."""
INDENT = 2
MARK_STYLES: dict[Mark, str] = {
    "chosen": "good",
    "rejected": "bad",
    "desirable": "good",
    "undesirable": "bad",
}


@dataclass(frozen=True)
class PageMaker:
    """Lays pages out for a width, and marks the matches of `hits`."""

    width: int
    is_ascii: bool = False
    hits: tuple[SearchTerm, ...] = ()
    marks: Marks = field(default_factory=dict)
    own_marks: OwnMarks = NO_MARKS

    def completion(self, group: Group, index: int, *, round: int) -> Page:
        """Lays out one completion under its prompt."""
        firsts = alike(group)
        place = f"completion {index + 1} of {len(group.completions)}"
        if (times := firsts.count(firsts[index])) > 1:
            place += f", given {times} times"
        lines = [*self._about(group, round, place), *self._prompt(group.prompt)]
        start = len(lines)
        lines += self._answer(group, index, round)
        return Page((*lines, *self._columns(group)), (start,))

    def group(self, group: Group, *, round: int) -> Page:
        """Lays out all completions of a prompt, in the order in which they were sampled; the same
        answers once. `starts` has an entry for each completion.
        """
        place = plural(len(group.completions), "completion")
        lines = [*self._about(group, round, place), *self._prompt(group.prompt)]
        starts: list[int] = []
        firsts = alike(group)
        for position, first in enumerate(firsts):
            if first < position:
                starts.append(starts[first])
                continue
            starts.append(len(lines))
            times = firsts.count(first)
            number = f"{position + 1}  " + (f"{times}x  " if times > 1 else "")
            lines += self._answer(group, position, round, number=number)
        return Page((*lines, *self._columns(group)), tuple(starts))

    def rounds(self, rounds: Sequence[OfRound]) -> Page:
        """Lays out what was said to one prompt in each round, oldest first: the best and the worst
        answer.
        """
        if not rounds:
            return Page()
        one = rounds[0].group
        about = [(one.prompt_id, "title"), (f"  in {plural(len(rounds), 'round')}", "muted")]
        lines = [*self._lines(about), *self._prompt(one.prompt)]
        if len(rounds) == 1:
            lines += self._lines([(ONE_ROUND, "muted")])
        starts = []
        for round, name, group in rounds:
            starts.append(len(lines))
            lines += self._lines([(name, "title"), (f"  {self._summary(group)}", "muted")])
            for what, index in extremes(group):
                lines += self._answer(group, index, round, what=what)
            lines.append(())
        return Page(tuple(lines), tuple(starts))

    def _summary(self, group: Group) -> str:
        """Writes how many completions there are, and their mean reward."""
        said = plural(len(group.completions), "completion")
        rewards = [one.reward for one in group.completions if one.reward is not None]
        if rewards:
            stderr = stdev(rewards) / sqrt(len(rewards)) if len(rewards) > 1 else None
            mean = measured(fmean(rewards), stderr)
            said += f"  mean reward {measured_in_ascii(mean) if self.is_ascii else mean}"
        return f"{said}  policy {group.policy_version}"

    def pair(self, pair: PreferencePair, *, round: int, is_derived: bool) -> Page:
        """Lays both out beside each other where there is room; words that differ are marked."""
        margin = f"margin {number(pair.reward_chosen - pair.reward_rejected)}"
        source = "best and worst of the group" if is_derived else "pair of the feedback"
        head: list[Run] = [(f"{pair.prompt_id}", "title"), (f"  round {round}  {source}  ", "")]
        lines = [*self._lines([*head, (margin, "accent")]), *self._prompt(pair.prompt)]
        sides = (("chosen", pair.chosen), ("rejected", pair.rejected))
        texts = [completion.text[:MOST_CHARACTERS] for _, completion in sides]
        found = differences(*texts)
        width = self.width
        if is_beside := self.width >= SIDE_BY_SIDE:
            width = (self.width - 3) // 2
        columns: list[list[Line]] = []
        for (side, completion), text, spans in zip(
            sides, texts, (found.chosen, found.rejected), strict=True
        ):
            style = "good" if side == "chosen" else "bad"
            about = [(side.upper(), style), (f"  {_worth(completion)}", "")]
            own = self.own_marks.of.get((round, pair.prompt_id, completion.completion_id))
            heading = laid_out([*about, *_marked(own)], width, is_ascii=self.is_ascii)
            heading += self._note(own, width)
            runs = marked(text, spans, style="differs")
            said = laid_out(runs, width, is_ascii=self.is_ascii, indent=0 if is_beside else INDENT)
            columns.append([*heading, *said, *self._left_out(completion.text)])
        start = len(lines)
        if is_beside:
            return Page((*lines, *_beside(columns, width, is_ascii=self.is_ascii)), (start,))
        return Page((*lines, *columns[0], (), *columns[1]), (start, start + len(columns[0]) + 1))

    def _about(self, group: Group, round: int, place: str) -> list[Line]:
        what = f"  round {round}  {place}  policy {group.policy_version}"
        return self._lines([(group.prompt_id, "title"), (what, "muted")])

    def _prompt(self, prompt: Sequence[Message]) -> Iterator[Line]:
        for message in prompt:
            yield ((message["role"], "accent"),)
            yield from self._said(text_of(message))
        yield ()

    def _said(self, text: str) -> Iterator[Line]:
        kept = text[:MOST_CHARACTERS]
        yield from self._lines(marked(kept, self._spans(kept), style="hit"), indent=INDENT)
        yield from self._left_out(text)

    def _spans(self, text: str) -> Iterator[Span]:
        """Yields where the hits are, in order; of those that overlap the first."""
        end = 0
        for start, stop in sorted(span for term in self.hits for span in term.spans_in(text)):
            if start >= end:
                yield start, stop
                end = stop

    def _left_out(self, text: str) -> list[Line]:
        more = len(text) - MOST_CHARACTERS
        if more <= 0:
            return []
        said = f"{count(more)} more characters are not shown; a file has all of it"
        return self._lines([(said, "warning")])

    def _answer(
        self, group: Group, index: int, round: int, *, number: str = "", what: str = "assistant"
    ) -> Iterator[Line]:
        """Lays out what a completion was worth, what a person says about it, and its text."""
        completion = group.completions[index]
        line: list[Run] = [(number, "title")] if number else []
        line += [(f"{what}  ", "accent"), (_worth(completion), "title")]
        if mark := mark_of(group, index, self.marks):
            line.append((f"  {mark}", MARK_STYLES[mark]))
        own = own_mark_of(group, index, round, self.own_marks)
        yield (*line, *_marked(own))
        yield from self._note(own, self.width, indent=INDENT)
        yield from self._said(completion.text)

    def _note(self, own: OwnMark | None, width: int, *, indent: int = 0) -> list[Line]:
        if own is None or not own.note:
            return []
        said = [("note: ", "accent"), (own.note, "")]
        return laid_out(said, width, is_ascii=self.is_ascii, indent=indent)

    def _columns(self, group: Group) -> list[Line]:
        if not group.columns:
            return []
        lines: list[Line] = [(), (("columns", "accent"),)]
        for name, value in group.columns.items():
            said = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            runs = [(f"{name}: ", "muted"), (said[:MOST_CHARACTERS], "")]
            lines += [*self._lines(runs, indent=INDENT), *self._left_out(said)]
        return lines

    def _lines(self, runs: Sequence[Run], *, indent: int = 0) -> list[Line]:
        return laid_out(runs, self.width, is_ascii=self.is_ascii, indent=indent)


def mark_of(group: Group, index: int, marks: Marks) -> Mark | None:
    """Returns what the feedback made of an answer: a pair has only one of those that are alike."""
    ids = (group.completions[at].completion_id for at in places_alike(group, index))
    return next(filter(None, (marks.get((group.prompt_id, id)) for id in ids)), None)


def own_mark_of(group: Group, index: int, round: int, own_marks: OwnMarks) -> OwnMark | None:
    """Returns a person's own mark on an answer, or on one that is alike."""
    keys = own_keys(group, index, round)
    return next((own_marks.of[key] for key in keys if key in own_marks.of), None)


def own_keys(group: Group, index: int, round: int) -> list[Key]:
    """Returns what names an answer and those that are alike where a person marks them."""
    ids = (group.completions[at].completion_id for at in places_alike(group, index))
    return [(round, group.prompt_id, id) for id in ids]


def places_alike(group: Group, index: int) -> list[int]:
    firsts = alike(group)
    return [at for at, first in enumerate(firsts) if first == firsts[index]]


def extremes(group: Group) -> list[tuple[str, int]]:
    """Returns the best and the worst completion, or the first where none is better."""
    rewards = {at: one.reward for at, one in enumerate(group.completions) if one.reward is not None}
    if len(set(rewards.values())) < 2:
        return [("first", 0)]
    best, worst = max(rewards, key=rewards.__getitem__), min(rewards, key=rewards.__getitem__)
    return [("best", best), ("worst", worst)]


def as_text(prompt: Sequence[Message], answers: Sequence[tuple[str, str]]) -> str:
    """Writes a conversation for a file, exactly as it was said; answers under their headings."""
    turns = [(message["role"], text_of(message)) for message in prompt]
    return "\n\n".join(f"{role}:\n{text}" for role, text in (*turns, *answers)) + "\n"


def _marked(own: OwnMark | None) -> list[Run]:
    return [("  * marked", "accent")] if own is not None and own.is_marked else []


def _worth(completion: Completion) -> str:
    """Says the reward, or why there is none, the length, and how the completion ended; and its
    temperature where those of its group differ.
    """
    if completion.unscored is not None:
        worth = f"unscored ({completion.unscored})"
    elif completion.reward is None:
        worth = "not scored yet"
    else:
        worth = f"reward {number(completion.reward)}{components_of(completion)}"
        worth += penalty_of(completion)
    ended = "cut off (length)" if completion.finish_reason == "length" else "stop"
    temperature = completion.temperature
    drawn = "" if temperature is None else f"  temperature {temperature:g}"
    return f"{worth}  {plural(num_tokens(completion), 'token')}  {ended}{drawn}"


def _beside(columns: Sequence[Sequence[Line]], width: int, *, is_ascii: bool) -> Iterator[Line]:
    bar: Run = (" | " if is_ascii else " │ ", "muted")
    for left, right in zip_longest(*columns, fillvalue=()):
        yield (*left, (" " * (width - num_cells(left)), ""), bar, *right)
