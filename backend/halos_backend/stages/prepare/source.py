"""Reads the rows of a prompts source, whatever its format; `rows` owns what they mean."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from halos_backend.config.schema import PromptsSettings
from halos_backend.errors import PromptsError

Row = dict[str, Any]

ENCODING = "utf-8-sig"
"""Names the encoding: spreadsheets put a byte order mark before UTF-8."""

LONGEST_FIELD = 2**31 - 1
"""Replaces the csv module's own limit of 131,072 characters, which is less than a document."""

SURPLUS = "\n"


def read_source(prompts: PromptsSettings) -> Iterator[tuple[str, Row]]:
    """Yields (where, row) for every row; `where` is for messages. Raises PromptsError."""
    path = Path(prompts.path)
    read = READERS.get(path.suffix.lower())
    if read is None and not path.exists():
        yield from _hub_rows(prompts)
        return
    if not path.is_file():
        text, fix = _why_no_file(path)
        raise PromptsError(f"prompts.path = {prompts.path!r}: {text}", fix=fix)
    if read is None:
        raise PromptsError(
            f"prompts.path = {prompts.path!r}: {path.suffix or 'a file without ending'} is not"
            " read",
            fix="make it .json, .jsonl, .csv or .parquet",
        )
    for number, row in enumerate(_guarded(read, path), start=1):
        where = f"{path}, row {number}"
        if not isinstance(row, dict):
            raise PromptsError(f"{where}: is {type(row).__name__}, not an object with columns")
        yield where, row


def _why_no_file(path: Path) -> tuple[str, str]:
    """Says what is there instead, and what to do."""
    if path.is_dir():
        return "is a directory", "name one .json, .jsonl, .csv or .parquet file in it"
    if path.exists():
        return "is a pipe or a device", "write its content to a file and name that"
    return (
        "there is no such file",
        "name a .json, .jsonl, .csv or .parquet file, or a Hugging Face dataset",
    )


def is_columnar(prompts: PromptsSettings) -> bool:
    """Says whether every row of the source has the fields of all, null where it has none of its
    own.
    """
    return Path(prompts.path).suffix.lower() not in (".json", ".jsonl", ".csv")


def _guarded(read: Callable[[Path], Iterable[Any]], path: Path) -> Iterator[Any]:
    try:
        yield from read(path)
    except UnicodeDecodeError as error:
        raise PromptsError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start})",
            fix="save it as UTF-8",
        ) from error
    except OSError as error:
        raise PromptsError(f"{path} cannot be read: {error.strerror or error}") from error
    except RecursionError as error:
        raise PromptsError(f"{path} has lists or objects nested too deeply ({error})") from error
    except ValueError as error:  # of numbers with 5,000 digits
        raise PromptsError(f"{path} cannot be read: {error}") from error


def _json_rows(path: Path) -> Iterator[Any]:
    try:
        content = json.loads(path.read_text(encoding=ENCODING))
    except json.JSONDecodeError as error:
        raise PromptsError(
            f"{path}, line {error.lineno}: {error.msg}",
            fix="if it has one object a line, name it .jsonl",
        ) from error
    if not isinstance(content, list):
        raise PromptsError(f"{path} holds {type(content).__name__}, not a list of objects")
    yield from content


def _json_line_rows(path: Path) -> Iterator[Any]:
    with path.open(encoding=ENCODING) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise PromptsError(f"{path}, line {number}: {error.msg}") from error


def _csv_rows(path: Path) -> Iterator[Any]:
    csv.field_size_limit(LONGEST_FIELD)
    with path.open(encoding=ENCODING, newline="") as file:
        reader = csv.DictReader(file, restkey=SURPLUS)
        try:
            for row in reader:
                if SURPLUS in row:
                    raise PromptsError(
                        f"{path}, line {reader.line_num}: more fields than columns",
                        fix="put text with commas in double quotes",
                    )
                yield row
        except csv.Error as error:
            raise PromptsError(f"{path}, line {reader.line_num}: {error}") from error


def _parquet_rows(path: Path) -> Iterator[Any]:
    from pyarrow import ArrowException, parquet  # 0.2 s that other formats need not wait

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except (ArrowException, OSError, ValueError, OverflowError) as error:  # all of damaged bytes
        reason = " ".join(str(error).split())
        raise PromptsError(
            f"{path} is no Parquet file, or damaged ({reason})", fix="write it again"
        ) from error


def _hub_rows(prompts: PromptsSettings) -> Iterator[tuple[str, Row]]:
    from datasets import disable_progress_bars, load_dataset  # 1 s that files need not wait

    disable_progress_bars()  # standard error is for the one message
    what = f"prompts.path = {prompts.path!r}"
    try:
        dataset = load_dataset(prompts.path, prompts.subset, split=prompts.split)
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise PromptsError(
            f"{what}: no such file, and it cannot be loaded as a Hugging Face dataset"
            f" (split {prompts.split!r}): {reason[0] if reason else type(error).__name__}"
        ) from error
    for number, row in enumerate(dataset, start=1):
        yield f"{prompts.path} ({prompts.split}), row {number}", dict(row)


READERS: dict[str, Callable[[Path], Iterable[Any]]] = {
    ".json": _json_rows,
    ".jsonl": _json_line_rows,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
}
