"""Filters runs by a line of terms: `status:paused loss:kto train.lr>=1e-6 -name:test 0412`.

A bare word is part of the name. `field:text` looks for the text in a field, `field>=number` and the
like compare; a leading `-` turns a term round. Fields are those of FIELDS, or settings by path.
"""

from __future__ import annotations

import difflib
import operator
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from halos_backend.errors import UsageError

FIELDS = ("name", "status", "loss", "stage", "round", "reward")
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "=": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
TERM = re.compile(r"(?P<field>[A-Za-z_][\w.]*)(?P<operator>:|>=|<=|!=|=|>|<)(?P<value>.*)", re.S)


@dataclass(frozen=True)
class Term:
    """This is one condition. `operator` is ':' or one of COMPARISONS."""

    field: str
    operator: str
    value: str
    is_negated: bool

    def matches(self, value_of: Callable[[str], object]) -> bool:
        return self._holds(value_of(self.field)) != self.is_negated

    def _holds(self, found: object) -> bool:
        if found is None:
            return False
        if self.operator == ":":
            return self.value.casefold() in str(found).casefold()
        number = _number(self.value)
        if number is None or isinstance(found, bool) or not isinstance(found, int | float):
            return COMPARISONS[self.operator](str(found).casefold(), self.value.casefold())
        return COMPARISONS[self.operator](found, number)


@dataclass(frozen=True)
class RunFilter:
    """A run fits when all terms hold."""

    terms: tuple[Term, ...] = ()

    def matches(self, value_of: Callable[[str], object]) -> bool:
        """Says whether a run fits. `value_of` knows FIELDS and dotted paths; None for what is
        not.
        """
        return all(term.matches(value_of) for term in self.terms)

    @property
    def settings(self) -> list[str]:
        """Returns the paths of the settings that terms are about."""
        return [term.field for term in self.terms if term.field not in FIELDS]


def parse_filter(text: str) -> RunFilter:
    """Reads a filter. Raises UsageError naming the term that makes no sense."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"the filter has a quotation mark that is not closed: {text}") from error
    return RunFilter(tuple(_term(word) for word in words if word != "-"))


def setting_at(settings: Mapping[str, Any], path: str) -> object:
    """Returns the setting of a dotted path; None where there is none."""
    found: object = settings
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _term(word: str) -> Term:
    is_negated = word.startswith("-")
    found = TERM.fullmatch(word.removeprefix("-"))
    if found is None:
        return Term("name", ":", word.removeprefix("-"), is_negated)
    field, sign, value = found["field"], found["operator"], found["value"]
    if field not in FIELDS and "." not in field:
        raise UsageError(f"no field '{field}'{_nearest(field, FIELDS)}; {_known()}")
    if not value:
        raise UsageError(f"'{word}' needs a value after '{sign}'")
    if sign in ("<", ">", "<=", ">=") and _number(value) is None:
        raise UsageError(f"'{word}': '{value}' is no number to compare with")
    return Term(field, sign, value, is_negated)


def _known() -> str:
    return f"try {', '.join(FIELDS)}, train.lr"


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f", did you mean {close[0]}?" if close else ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
