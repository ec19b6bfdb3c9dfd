"""Filters runs by a line of terms: `status:paused loss:kto train.lr>=1e-6 -name:test 0412`.

A bare word is part of the name or the title. Fields are those of FIELDS, or settings by path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from halos_backend.errors import UsageError

from halos_tui.filter_terms import Term, checked, nearest, split_terms

FIELDS = ("name", "title", "tag", "note", "status", "loss", "stage", "round", "reward")


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
    return RunFilter(tuple(_term(term) for term in split_terms(text) if term.source != "-"))


def setting_at(settings: Mapping[str, Any], path: str) -> object:
    """Returns the setting of a dotted path; None where there is none."""
    found: object = settings
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _term(term: Term) -> Term:
    if not term.field:
        return replace(term, field="name", operator=":")
    if term.field not in FIELDS and "." not in term.field:
        meant = nearest(term.field, FIELDS)
        hint = f", did you mean {meant}?" if meant else ""
        known = ", ".join(FIELDS)
        raise UsageError(f"no field '{term.field}'{hint}; try {known}, train.lr")
    return checked(term)
