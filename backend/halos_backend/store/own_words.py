"""Owns a person's own words about a run: a title, a note, tags. They change nothing of the run.

A run's name is that of its directory. Forks, jobs and scripts refer to it, so that it stays as it
is, and the title is shown beside it.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from halos_backend import atomic
from halos_backend.errors import CorruptFileError, UsageError
from halos_backend.records import BAD_JSON
from halos_backend.store.requests import read_regular_file
from halos_backend.store.run_dir import RunDir

MOST_BYTES = 64 * 1024
MOST_TAGS = 20
LONGEST_TITLE = 80
LONGEST_NOTE = 2000
TAG = re.compile(r"\w[\w.+-]{0,39}")


class OwnWords(msgspec.Struct, frozen=True, kw_only=True):
    """Each of them is one line of text; nothing is "" or empty."""

    title: Annotated[str, msgspec.Meta(max_length=LONGEST_TITLE)] = ""
    note: Annotated[str, msgspec.Meta(max_length=LONGEST_NOTE)] = ""
    tags: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=40)], ...],
        msgspec.Meta(max_length=MOST_TAGS),
    ] = ()

    def with_title(self, text: str) -> OwnWords:
        """Raises UsageError for a text that is too long."""
        return msgspec.structs.replace(self, title=_on_one_line(text, "title", LONGEST_TITLE))

    def with_note(self, text: str) -> OwnWords:
        """Raises UsageError for a text that is too long."""
        return msgspec.structs.replace(self, note=_on_one_line(text, "note", LONGEST_NOTE))

    def tagged(self, *, more: tuple[str, ...] = (), fewer: tuple[str, ...] = ()) -> OwnWords:
        """Adds tags and takes some away. Raises UsageError for one that makes no sense."""
        for tag in more:
            if not TAG.fullmatch(tag):
                raise UsageError(
                    f"{tag!r} is no tag: a word of letters, digits, '_', '.', '+' and '-', at"
                    " most 40"
                )
        tags = tuple(tag for tag in dict.fromkeys((*self.tags, *more)) if tag not in fewer)
        if len(tags) > MOST_TAGS:
            raise UsageError(f"a run has at most {MOST_TAGS} tags")
        return msgspec.structs.replace(self, tags=tags)


NO_WORDS = OwnWords()
_decoder = msgspec.json.Decoder(OwnWords)


def read_own_words(run_dir: RunDir) -> OwnWords:
    """Returns the words, none where nobody wrote any. Raises CorruptFileError."""
    try:
        return _decoder.decode(read_regular_file(run_dir.own_words, MOST_BYTES))
    except FileNotFoundError:
        return NO_WORDS
    except OSError as error:
        raise CorruptFileError(f"{run_dir.own_words}: {error.strerror}") from error
    except BAD_JSON as error:
        raise CorruptFileError(f"{run_dir.own_words}: {error}; delete it to begin anew") from error


def words_or_problem(run_dir: RunDir) -> tuple[OwnWords, str]:
    """Returns no words, and why, where they cannot be read: that is no reason to hide the run."""
    try:
        return read_own_words(run_dir), ""
    except CorruptFileError as error:
        return NO_WORDS, str(error).replace(f"{run_dir.path}/", "")


def write_own_words(run_dir: RunDir, words: OwnWords) -> None:
    """Replaces the words; without any the file goes. Raises UsageError where that cannot be."""
    try:
        if words == NO_WORDS:
            run_dir.own_words.unlink(missing_ok=True)
        else:
            content = msgspec.json.format(msgspec.json.encode(words))
            atomic.write_bytes(run_dir.own_words, content + b"\n")
    except OSError as error:
        raise UsageError(f"{run_dir.own_words} cannot be written: {error.strerror}") from error


def _on_one_line(text: str, what: str, longest: int) -> str:
    line = " ".join(text.split())
    if len(line) > longest:
        raise UsageError(f"a {what} has at most {longest} characters, and this one {len(line)}")
    return line
