"""Owns a person's own words about a run: title, note, tags, and marks and notes on completions.
They change nothing of the run, and training never sees them.

A run's name is that of its directory. Forks, jobs and scripts refer to it, so that it stays as it
is, and the title is shown beside it.

Marks are rows of a file of their own. A row that cannot be read is left out and named, and stays in
the file when others change. Several programs may change words and marks: each holds the run's
directory meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from halos_backend import atomic
from halos_backend.errors import CorruptFileError, UsageError
from halos_backend.records import BAD_JSON, encode_row
from halos_backend.store.requests import read_regular_file
from halos_backend.store.run_dir import RunDir

MOST_BYTES = 64 * 1024
MOST_MARK_BYTES = 16 << 20
"""A hundred thousand marks fit."""
MOST_TAGS = 20
LONGEST_TITLE = 80
LONGEST_NOTE = 2000
TAG = re.compile(r"\w[\w.+-]{0,39}")

Key = tuple[int, str, str]
"""It names a completion by round, prompt_id and completion_id."""


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


def change_own_words(
    run_dir: RunDir, change: Callable[[OwnWords], OwnWords], *, replaces_damage: bool = False
) -> None:
    """Changes the words as they are in the file by now.

    Raises UsageError, and CorruptFileError for words that cannot be read: they stay as they are,
    unless a person was told and `replaces_damage`.
    """
    try:
        with _held(run_dir):
            if replaces_damage:
                words, _ = words_or_problem(run_dir)
            else:
                words = read_own_words(run_dir)
            write_own_words(run_dir, change(words))
    except OSError as error:
        raise UsageError(f"{run_dir.path} cannot be opened: {error.strerror}") from error


class OwnMark(msgspec.Struct, frozen=True, omit_defaults=True):
    """Is what a person says about a completion: that it is to be found again, and a line of
    text.
    """

    round: int
    prompt_id: str
    completion_id: str
    is_marked: bool = False
    note: str = ""

    @property
    def key(self) -> Key:
        return self.round, self.prompt_id, self.completion_id


@dataclass(frozen=True)
class OwnMarks:
    """Holds the marks of a run. `problem` names what could not be read, `damaged` are such
    lines.
    """

    of: Mapping[Key, OwnMark] = field(default_factory=dict)
    problem: str = ""
    damaged: tuple[bytes, ...] = ()

    def on(self, round: int, prompt_id: str, completion_id: str) -> OwnMark:
        """Returns what is said about a completion, which may be nothing."""
        key = (round, prompt_id, completion_id)
        return self.of.get(key, OwnMark(*key))


NO_MARKS = OwnMarks()
_mark_decoder = msgspec.json.Decoder(OwnMark)


def read_own_marks(run_dir: RunDir) -> OwnMarks:
    """Returns the marks that can be read; none where there is no file, or none that can be."""
    try:
        return _decoded(run_dir, read_regular_file(run_dir.own_marks, MOST_MARK_BYTES))
    except FileNotFoundError:
        return NO_MARKS
    except OSError as error:
        return OwnMarks(problem=f"{run_dir.own_marks}: {error.strerror}")


def toggle_marks(run_dir: RunDir, keys: Collection[Key]) -> OwnMarks:
    """Marks completions, or takes the mark from all where one of them has it. Raises UsageError."""

    def toggled(marks: dict[Key, OwnMark]) -> dict[Key, OwnMark]:
        is_marked = any(key in marks and marks[key].is_marked for key in keys)
        return {
            key: msgspec.structs.replace(marks.get(key, OwnMark(*key)), is_marked=not is_marked)
            for key in keys
        }

    return _change(run_dir, toggled)


def write_note(run_dir: RunDir, keys: Collection[Key], text: str) -> OwnMarks:
    """Writes a note about completions; an empty one takes it away. Raises UsageError."""
    note = _on_one_line(text, "note", LONGEST_NOTE)
    return _change(
        run_dir,
        lambda marks: {
            key: msgspec.structs.replace(marks.get(key, OwnMark(*key)), note=note) for key in keys
        },
    )


def _change(
    run_dir: RunDir, change: Callable[[dict[Key, OwnMark]], dict[Key, OwnMark]]
) -> OwnMarks:
    """Changes some marks, and keeps all others as they are in the file by now."""
    path = run_dir.own_marks
    try:
        with _held(run_dir):
            before = read_own_marks(run_dir)
            if before.problem and not before.damaged:
                raise UsageError(f"{before.problem}; nothing was written")
            marks = {**before.of, **change(dict(before.of))}
            marks = {key: mark for key, mark in marks.items() if mark.is_marked or mark.note}
            if marks or before.damaged:
                content = b"".join((*before.damaged, *map(encode_row, marks.values())))
                if len(content) > MOST_MARK_BYTES:
                    raise UsageError(f"{path} would have over {MOST_MARK_BYTES} bytes")
                atomic.write_bytes(path, content)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    return OwnMarks(marks, before.problem, before.damaged)


@contextmanager
def _held(run_dir: RunDir) -> Iterator[None]:
    """Waits until nobody else changes words or marks; file systems without locks go without."""
    fd = os.open(run_dir.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _decoded(run_dir: RunDir, content: bytes) -> OwnMarks:
    marks: dict[Key, OwnMark] = {}
    problem = ""
    damaged = []
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            mark = _mark_decoder.decode(line)
        except BAD_JSON as error:
            problem = problem or f"{run_dir.own_marks}, line {number}: {error}"
            damaged.append(line + b"\n")
        else:
            marks[mark.key] = mark
    return OwnMarks(marks, problem, tuple(damaged))


def _on_one_line(text: str, what: str, longest: int) -> str:
    line = " ".join(text.split())
    if len(line) > longest:
        raise UsageError(f"a {what} has at most {longest} characters, and this one {len(line)}")
    return line
