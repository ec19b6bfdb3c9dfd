"""Owns `DONE`: the manifest written last, which makes an attempt count.

It names every output with its size and SHA-256. Routine verification looks at sizes and at the
headers of safetensors files; full verification reads every byte.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from halos_backend import SCHEMA_VERSION, atomic
from halos_backend.records import BAD_JSON

CHUNK_BYTES = 1 << 20
NUM_SEALING = 4
"""Is how many files are flushed and hashed at once: the cores that a stage computed with are free
by then.
"""


class FileEntry(msgspec.Struct, frozen=True):
    """Is one output; `name` is relative to the attempt directory."""

    name: str
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """Lists what an attempt left, with the summary of it."""

    files: tuple[FileEntry, ...]
    summary: dict[str, Any]
    schema_version: int = SCHEMA_VERSION


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def files_below(path: Path) -> list[Path]:
    """Returns the file itself, or every file of the tree, sorted. Raises FileNotFoundError."""
    if not path.is_dir():
        path.stat()
        return [path]
    return sorted(entry for entry in path.rglob("*") if entry.is_file())


class Seals:
    """Flushes outputs to disk and hashes them, while others are still written."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(NUM_SEALING, thread_name_prefix="seal")
        self._flushed: dict[Path, Future[None]] = {}
        self._digests: dict[Path, Future[str]] = {}

    def begin(self, output: Path) -> None:
        """Begins on a file, or a tree with all its files, that will not change any more.

        Raises FileNotFoundError.
        """
        for path in files_below(output):
            if path not in self._digests:
                self._flushed[path] = self._pool.submit(atomic.fsync_file, path)
                self._digests[path] = self._pool.submit(sha256_of, path)

    def add(self, path: Path, digest: str) -> None:
        """Takes in a file that is on the disk already, and its SHA-256."""
        known: Future[str] = Future()
        known.set_result(digest)
        self._digests[path] = known

    def digest(self, path: Path) -> str:
        """Returns a file's SHA-256, once it is on the disk. Raises OSError."""
        if path in self._flushed:
            self._flushed[path].result()
        return self._digests[path].result()

    def close(self) -> None:
        """Ends the work; no more files are begun."""
        self._pool.shutdown()


def write_done(
    directory: Path,
    outputs: Sequence[Path],
    summary: dict[str, Any],
    *,
    seals: Seals | None = None,
) -> Manifest:
    """Flushes `outputs` (files or trees inside `directory`) to disk, then writes `DONE`.

    `seals` were begun for some of them. Numbers of the summary that are not finite are left null
    and named in `non_finite`. Raises OSError for an output that is missing.
    """
    seals = seals or Seals()
    for output in outputs:
        seals.begin(output)
    entries = []
    for path in (file for output in outputs for file in files_below(output)):
        name = path.relative_to(directory).as_posix()
        entries.append(FileEntry(name, path.stat().st_size, seals.digest(path)))
    seals.close()
    for folder in {path for output in outputs for path in _folders(directory, output)}:
        atomic.fsync_dir(folder)
    manifest = Manifest(tuple(entries), _with_non_finite_named(summary))
    atomic.write_bytes(
        directory / "DONE", msgspec.json.format(msgspec.json.encode(manifest)) + b"\n"
    )
    return manifest


def read_done(directory: Path) -> Manifest | None:
    """Returns the manifest, or None where there is none or it cannot be read."""
    try:
        return msgspec.json.decode((directory / "DONE").read_bytes(), type=Manifest)
    except (OSError, *BAD_JSON):
        return None


def find_damage(directory: Path, manifest: Manifest, *, full: bool = False) -> str | None:
    """Says why the outputs are not what `DONE` says, or None when they are."""
    for entry in manifest.files:
        path = directory / entry.name
        try:
            reason = _file_damage(path, entry, full=full)
        except OSError as error:
            reason = error.strerror
        if reason is not None:
            return f"{path}: {reason}"
    return None


def _folders(directory: Path, output: Path) -> list[Path]:
    """Returns every folder below `directory` whose entries the output needs."""
    above = [folder for folder in output.parents if folder.is_relative_to(directory)]
    return [*above, *(path for path in (output, *output.rglob("*")) if path.is_dir())]


def _with_non_finite_named(summary: dict[str, Any]) -> dict[str, Any]:
    """Replaces NaN and infinity, for which JSON has no word, by null, and names them."""
    names = [
        name
        for name, value in summary.items()
        if isinstance(value, float) and not math.isfinite(value)
    ]
    return {**summary, **dict.fromkeys(names), "non_finite": names} if names else summary


def _file_damage(path: Path, entry: FileEntry, *, full: bool) -> str | None:
    size = path.stat().st_size
    if size != entry.bytes:
        return f"{size} bytes, not {entry.bytes} as DONE says"
    if path.suffix == ".safetensors" and (reason := _bad_safetensors_header(path, size)):
        return reason
    if full and sha256_of(path) != entry.sha256:
        return "its bytes are not those that were written"
    return None


def _bad_safetensors_header(path: Path, size: int) -> str | None:
    """Says what is wrong with a header: 8 bytes of its length, the header as JSON, then the
    tensors' bytes.
    """
    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            return "no safetensors header"
        (length,) = struct.unpack("<Q", prefix)
        if length > size - 8:
            return "safetensors header longer than the file"
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            return "safetensors header is no JSON"
    try:
        tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
        end = 8 + length + max((int(tensor["data_offsets"][1]) for tensor in tensors), default=0)
    except (AttributeError, LookupError, TypeError, ValueError):
        return "safetensors header names no tensors"
    return None if end == size else f"safetensors header promises {end} bytes, the file has {size}"
