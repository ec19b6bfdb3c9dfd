"""Lays out a change and the two rounds around it as a page: settings that differ, and results.
Pure.

It makes the text that leaves the changes screen too: the page, or the history with it. Values may
be long and are never cut short in a file, so this belongs into a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from halos_backend.store.standard_error import NUM_STDERRS

from halos_tui.changes.comparison import START, Comparison
from halos_tui.changes.entries import Entry, fate_of
from halos_tui.changes.results import REWARD, Result
from halos_tui.changes.view import ChangesView
from halos_tui.changes.wording import difference, how, plus_minus, relative, texts_of, when
from halos_tui.formatting import (
    at_point,
    columns,
    count,
    date_time,
    measured_in_ascii,
    plural,
    setting,
    visible,
)
from halos_tui.text_layout import Line, Run, laid_out, num_cells

MOST_CHARACTERS = 2_000
"""A value shows at most so many characters on the screen; a file has all of it."""
RESULTS_WIDTH, LEAST_SETTINGS = 76, 36
"""Settings and results stand beside each other where there is room for both widths."""
INDENT = 2
UNBROKEN = 1_000_000_000
"""This width is for files, in which every value is on one line."""

HEADER = ("when", "from", "how", "what", "")


@dataclass(frozen=True)
class ChangesPage:
    """Lays out for a width; `now` is Unix seconds. `most` limits the characters of a value."""

    width: int
    now: float
    is_ascii: bool = False
    most: int | None = MOST_CHARACTERS

    def lines(self, found: Comparison | None, entry: Entry | None) -> tuple[Line, ...]:
        """Returns the lines of the page; `entry` is the change that the rounds are about, or
        None.
        """
        about = [] if entry is None else [*self._entry(entry), ()]
        if found is None:
            nothing = "no round has begun: there is nothing to compare yet"
            return (*about, *self._laid_out([(nothing, "muted")]))
        return (*about, *self._head(found), *self._differences(found))

    def _entry(self, entry: Entry) -> list[Line]:
        lines = self._laid_out([(visible(self._clipped(entry.what)), "title")])
        from_round = f"from round {entry.from_round}, "
        lines += self._laid_out([(f"{from_round}{how(entry)}, {when(entry, self.now)}", "")])
        if fate := fate_of(entry):
            style = "bad" if entry.fate == "refused" else "warning"
            lines += self._laid_out([(fate, style)])
        for said in filter(None, (entry.why, *entry.consequences)):
            lines += self._laid_out([(self._clipped(said), "muted")], indent=INDENT)
        return lines

    def _head(self, found: Comparison) -> list[Line]:
        older, newer = found.names
        head = [(f"{older} -> {newer}", "accent")]
        if found.older == START:
            said = found.start or "the settings that the run was created with"
            head.append((f"  {older}: {said}", "muted"))
        lines = self._laid_out(head)
        for note in found.notes:
            lines += self._laid_out([(visible(note), "warning")])
        return lines

    def _differences(self, found: Comparison) -> list[Line]:
        left = self.width - RESULTS_WIDTH - 3
        if left < LEAST_SETTINGS or self.width == UNBROKEN:
            return [*self._settings(found, self.width), (), *self._results(found, self.width)]
        return self._beside(self._settings(found, left), self._results(found, RESULTS_WIDTH), left)

    def _settings(self, found: Comparison, width: int) -> list[Line]:
        head = _how_many(len(found.settings))
        lines: list[Line] = [((head, "title"),)]
        for path, (old, new) in found.settings.items():
            values = visible(f"{self._clipped(setting(old))} -> {self._clipped(setting(new))}")
            name: Run = (f"{visible(path)}  ", "")
            on_one = self._laid_out([name, (values, "accent")], width, indent=INDENT)
            if len(on_one) > 1:
                on_one = self._laid_out([name], width, indent=INDENT)
                on_one += self._laid_out([(values, "accent")], width, indent=2 * INDENT)
            lines += on_one
        return lines

    def _results(self, found: Comparison, width: int) -> list[Line]:
        if not found.results:
            return self._laid_out([("neither round has results yet", "muted")], width)
        lines = [line for result in found.results for line in self._verdict(result, width)]
        head, *rows = table(found.results, found.names, width=width, is_ascii=self.is_ascii)
        lines.append(((head, "title"),))
        for row, result in zip(rows, found.results, strict=True):
            lines.append(((row, _style(result)),))
        return [*lines, *self._formula(found, width)]

    def _verdict(self, result: Result, width: int) -> list[Line]:
        if result.significance is None:
            return []
        said = f"{result.measure.name} {difference(result)}: {result.significance}"
        return self._laid_out([(said, _style(result))], width)

    def _formula(self, found: Comparison, width: int) -> list[Line]:
        if all(result.significance is None for result in found.results):
            return []
        error = plus_minus(is_ascii=self.is_ascii)
        said = (
            f"{error} is one standard error: of a reward the spread of its prompts' means over"
            " sqrt(prompts); of a change sqrt(a^2 + b^2), or the same of the prompts' changes where"
            f" both rounds have them. Noise is a change of at most {NUM_STDERRS:g} of them."
        )
        return self._laid_out([(said, "muted")], width)

    def _clipped(self, text: str) -> str:
        more = 0 if self.most is None else len(text) - self.most
        if more <= 0:
            return text
        return f"{text[: self.most]} ... ({count(more)} more characters)"

    def _laid_out(
        self, runs: Sequence[Run], width: int | None = None, *, indent: int = 0
    ) -> list[Line]:
        width = self.width if width is None else width
        return laid_out(runs, width, is_ascii=self.is_ascii, indent=indent)

    def _beside(self, left: list[Line], right: list[Line], width: int) -> list[Line]:
        bar: Run = (" | " if self.is_ascii else " │ ", "muted")
        return [
            (*one, (" " * (width - num_cells(one)), ""), bar, *other)
            for one, other in zip_longest(left, right, fillvalue=())
        ]


def as_text(lines: Sequence[Line]) -> str:
    """Returns the lines for a file or the clipboard; what could steer a terminal becomes
    escapes.
    """
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines) + "\n"


def _how_many(settings: int) -> str:
    if not settings:
        return "no setting differs"
    return f"{plural(settings, 'setting')} differ{'s' if settings == 1 else ''}"


def _style(result: Result) -> str:
    """Returns the style of a result; only for the reward it is known which way is better."""
    if result.measure != REWARD:
        return ""
    if result.significance != "more than noise" or result.difference is None:
        return ""
    return "good" if result.difference > 0 else "bad"


def page_text(view: ChangesView) -> str:
    """Returns the page as it is shown, with whole values."""
    return as_text(ChangesPage(UNBROKEN, view.now, most=None).lines(view.found, view.about))


def whole_text(view: ChangesView, run: str) -> str:
    """Returns the entries that are listed, and the page."""
    head = f"{visible(run)}: {plural(len(view.entries), 'change')}"
    return "\n".join([head, *_listed(view.entries), "", page_text(view)])


def _listed(entries: Sequence[Entry]) -> list[str]:
    if not entries:
        return []
    rows = [
        (date_time(entry.t), f"round {entry.from_round}", how(entry), entry.what, _fate(entry))
        for entry in entries
    ]
    return columns(HEADER, [[visible(cell) for cell in row] for row in rows])


def _fate(entry: Entry) -> str:
    """Says what became of an entry, with the reason where it was refused or is no setting."""
    return "; ".join(filter(None, (fate_of(entry), entry.why)))


def table(
    results: Sequence[Result], names: tuple[str, str], *, width: int, is_ascii: bool = False
) -> list[str]:
    """Returns a heading and a line for each result; `names` are of the older and the newer round.

    Where the lines do not fit, the relative change is left out first, then the standard errors.
    """
    titles = ["results", *names, "change", "%"]
    rows = [_cells(result, has_errors=True) for result in results]
    shorter = [row[:-1] for row in rows]
    bare = [_cells(result, has_errors=False)[:-1] for result in results]
    lines: list[str] = []
    for kept in (rows, shorter, bare):
        lines = _lines(titles, kept)
        if max(map(len, lines)) <= width:
            break
    return [measured_in_ascii(line) for line in lines] if is_ascii else lines


def _lines(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    names, *columns = zip(*rows, strict=True)
    width = max(map(len, (titles[0], *names)))
    placed = [[text.ljust(width) for text in (titles[0], *names)]]
    placed += [_column(title, column) for title, column in zip(titles[1:], columns, strict=False)]
    return ["  ".join(line).rstrip() for line in zip(*placed, strict=True)]


def _cells(result: Result, *, has_errors: bool) -> list[str]:
    return [result.measure.name, *texts_of(result, has_errors=has_errors), relative(result)]


def _column(title: str, texts: Sequence[str]) -> list[str]:
    """Puts the points of a column below each other."""
    column = at_point(texts)
    width = max(len(title), len(column[0]))
    return [text.rjust(width) for text in (title, *column)]
