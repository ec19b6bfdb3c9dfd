"""Owns the language of filters: words, and terms such as `status:paused reward<0 -name:test`.

`field:text` looks for the text in a field, and for a number takes that number alone;
`field~pattern` looks for a pattern, `field>=number` and the like compare. A leading `-` turns a
term round, and quotes hold what has blanks in it together. Which fields there are, and what a word
without a field means, is left to what is filtered.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from halos_backend.errors import UsageError

if TYPE_CHECKING:
    from halos_tui.search_term import SearchTerm

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "=": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
    ":": operator.eq,
}
OF_NUMBERS = ("<", ">", "<=", ">=")
QUOTES = ("'", '"')
TERM = re.compile(
    r"(?P<minus>-?)(?:(?P<field>[A-Za-z_][\w.]*)(?P<operator>:|~|>=|<=|!=|=|>|<))?"
    r"""(?P<value>"[^"]*"(?!\S)|'[^']*'(?!\S)|\S*)"""
)


@dataclass(frozen=True)
class Term:
    """This is one condition, or a word, which has no field. `source` is what was typed."""

    field: str
    operator: str
    value: str
    is_negated: bool = False
    source: str = ""

    @property
    def is_plain(self) -> bool:
        """Says whether it is a word that stands as it is meant."""
        return self.source == self.value

    @property
    def number(self) -> float | None:
        try:
            return float(self.value)
        except ValueError:
            return None

    @cached_property
    def pattern(self) -> SearchTerm:
        """Returns the value as a pattern. Raises UsageError where it is none."""
        from halos_tui.search_term import pattern_term  # saves 12 ms where no pattern is used

        return pattern_term(self.value)

    def matches(self, value_of: Callable[[str], object]) -> bool:
        """Says whether it holds. `value_of` returns a field's value, None where there is none."""
        return self.holds(value_of(self.field)) != self.is_negated

    def holds(self, found: object) -> bool:
        """Says whether it is true of a value, before it is turned round; of None nothing is.

        Of several values one must fit, or none be the same.
        """
        if found is None:
            return False
        if isinstance(found, tuple):
            return (all if self.operator == "!=" else any)(map(self.holds, found))
        if self.operator == "~":
            return self.pattern.is_in(str(found))
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        if is_number and self.number is not None:
            return COMPARISONS[self.operator](found, self.number)
        ours, theirs = self.value.casefold(), str(found).casefold()
        return ours in theirs if self.operator == ":" else COMPARISONS[self.operator](theirs, ours)


def split_terms(text: str) -> list[Term]:
    """Splits a filter into its terms. Raises UsageError where a field's quotes are not closed."""
    return [_term(found) for found in TERM.finditer(text) if found[0]]


def checked(term: Term) -> Term:
    """Returns the term of a field. Raises UsageError where its value makes no sense."""
    if not term.value:
        raise UsageError(f"'{term.source}' needs a value after '{term.operator}'")
    if term.operator in OF_NUMBERS:
        check_number(term)
    if term.operator == "~":
        _ = term.pattern
    return term


def check_number(term: Term) -> None:
    """Raises UsageError where the value is no number."""
    if term.number is None:
        raise UsageError(f"'{term.source}': '{term.value}' is no number to compare with")


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Returns the name that may be meant by one that is not known."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return close[0] if close else None


def _term(found: re.Match[str]) -> Term:
    value, field = found["value"], found["field"] or ""
    if found[0] == "-":
        return Term("", "", "-", source="-")
    if value.startswith(QUOTES):
        if len(value) > 1 and value.endswith(value[0]):
            value = value[1:-1]
        elif field:
            raise UsageError(f"the filter has a quotation mark that is not closed: {found[0]}")
    return Term(field, found["operator"] or "", value, bool(found["minus"]), found[0])
