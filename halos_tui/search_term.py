"""Owns what a person searches for, and where it is found in bytes or in text.

Patterns run in the `regex` package and not in `re`: it lets other threads go on meanwhile and
gives up after a time limit, so that no pattern a person types can freeze the screen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import regex
from halos_backend.errors import UsageError

TIME_LIMIT_S = 1.0
"""One search in a few MiB takes at most so long; a usual pattern takes milliseconds."""

Span = tuple[int, int]
"""A span in bytes is (offset, length)."""


@dataclass(frozen=True)
class SearchTerm:
    """A term is plain text, or a pattern in the syntax of `re`. A match never spans a line break.

    In bytes a pattern is UTF-8: classes, dots and case know ASCII only. Plain text ignores the
    case of every letter. Raises UsageError when it is empty, has a line break, or is no pattern.
    """

    text: str
    is_regex: bool = False
    ignore_case: bool = False

    def __post_init__(self) -> None:
        if not self.text:
            raise UsageError("nothing to search for: give at least one character")
        if not self.is_regex and "\n" in self.text:
            raise UsageError("a search looks within lines: leave the line break out")
        if self.is_regex:
            _ = self._byte_pattern, self._text_pattern

    def in_lines(self, content: bytes) -> Iterator[Span]:
        """Yields matches in whole lines, left to right, none empty. Raises UsageError after the
        limit.
        """
        if self._needle is None:
            return self._pattern_in_lines(content)
        return _plain(content.lower() if self.ignore_case else content, self._needle)

    @property
    def typed(self) -> str:
        """Returns what `read_term` reads as this."""
        return f"/{self.text}" if self.is_regex else self.text

    def is_in(self, text: str) -> bool:
        """Says whether a text has it anywhere. Raises UsageError after the time limit."""
        if not self.is_regex and not self.ignore_case:
            return self.text in text
        return self._search(self._text_pattern, text, 0, len(text)) is not None

    def spans_in(self, text: str) -> Iterator[tuple[int, int]]:
        """Yields (start, end) of each match in a text. Raises UsageError after the time limit."""
        found = self._search(self._text_pattern, text, 0, len(text))
        while found is not None:
            start, end = found.span()
            if end > start:
                yield start, end
            found = self._search(self._text_pattern, text, max(end, start + 1), len(text))

    @cached_property
    def json_bytes(self) -> bytes | None:
        """Returns bytes that are in every JSON line with a match, whoever wrote it; None where
        unsure.
        """
        plain = not self.is_regex and self.text.isascii() and self.text.isprintable()
        if not plain or set(self.text) & set('"\\/<>&'):
            return None
        return self.text.lower().encode() if self.ignore_case else self.text.encode()

    def may_be_in(self, json_line: bytes) -> bool:
        """Returns False only for a line that surely has no match; far cheaper than decoding it."""
        if self.json_bytes is None:
            return True
        return self.json_bytes in (json_line.lower() if self.ignore_case else json_line)

    @cached_property
    def _needle(self) -> bytes | None:
        """Returns what `bytes.find` can look for; None where a pattern must."""
        if self.is_regex or (self.ignore_case and not self.text.isascii()):
            return None
        return self.text.lower().encode() if self.ignore_case else self.text.encode()

    @cached_property
    def _byte_pattern(self) -> regex.Pattern[bytes]:
        if self.is_regex:
            source = self.text.encode(errors="surrogateescape")
        else:
            source = b"".join(_any_case(character) for character in self.text)
        return self._compiled(source)

    @cached_property
    def _text_pattern(self) -> regex.Pattern[str]:
        return self._compiled(self.text if self.is_regex else regex.escape(self.text))

    def _compiled(self, source: str | bytes) -> regex.Pattern:
        flags = regex.MULTILINE | (regex.IGNORECASE if self.ignore_case else 0)
        try:
            return regex.compile(source, flags)
        except (regex.error, ValueError, RecursionError, OverflowError) as error:
            raise UsageError(f"{self.text!r} is no pattern: {error}") from error

    def _pattern_in_lines(self, content: bytes) -> Iterator[Span]:
        """Searches all lines at once; from the first match that spans lines on, line by line."""
        position, size = 0, len(content)
        while position < size:
            found = self._search(self._byte_pattern, content, position, size)
            if found is None:
                return
            start, end = found.span()
            if content.find(b"\n", start, end) >= 0:
                line = content.rfind(b"\n", 0, start) + 1
                yield from self._line_by_line(content, line, position)
                return
            if end > start:
                yield start, end - start
            position = end if end > start else start + 1

    def _line_by_line(self, content: bytes, line: int, position: int) -> Iterator[Span]:
        """Yields matches that begin at `position` or later, from the line that starts at `line`
        on.
        """
        while line < len(content):
            end_of_line = content.find(b"\n", line)
            end_of_line = len(content) if end_of_line < 0 else end_of_line
            position = max(position, line)
            while position <= end_of_line:
                found = self._search(self._byte_pattern, content, position, end_of_line)
                if found is None:
                    break
                start, end = found.span()
                if end > start:
                    yield start, end - start
                position = end if end > start else start + 1
            line = end_of_line + 1

    def _search(
        self, pattern: regex.Pattern, content: str | bytes, start: int, end: int
    ) -> regex.Match | None:
        try:
            return pattern.search(content, start, end, concurrent=True, timeout=TIME_LIMIT_S)
        except TimeoutError as error:
            raise UsageError(
                f"the pattern {self.text!r} takes too long; nested repeats such as (a+)+ do that:"
                " make it simpler, or search for plain text"
            ) from error


def read_term(text: str) -> SearchTerm | None:
    """Reads what a person typed: words, or a pattern after a slash; None where that is nothing yet.

    Without a capital letter the case does not matter. Raises UsageError for what is no pattern.
    """
    if text in ("", "/"):
        return None
    return pattern_term(text[1:]) if text.startswith("/") else plain_term(text)


def plain_term(text: str) -> SearchTerm:
    """Returns the term of a text as it stands."""
    return SearchTerm(text, ignore_case=text == text.lower())


def pattern_term(text: str) -> SearchTerm:
    """Returns the term of a pattern. Raises UsageError where it is none."""
    letters = regex.sub(r"\\.", "", text)
    return SearchTerm(text, is_regex=True, ignore_case=letters == letters.lower())


def _plain(content: bytes, needle: bytes) -> Iterator[Span]:
    position = content.find(needle)
    while position >= 0:
        yield position, len(needle)
        position = content.find(needle, position + len(needle))


def _any_case(character: str) -> bytes:
    variants = {character, character.lower(), character.upper()}
    escaped = (regex.escape(variant.encode(errors="replace")) for variant in sorted(variants))
    return b"(?:" + b"|".join(escaped) + b")"
