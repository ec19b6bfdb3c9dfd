"""Writes safetensors files that nobody is about to read: to the disk, hashed on the way.

They go past the page cache where the file system lets them: filling a gigabyte of it with moments
takes longer than writing them, and drives out the checkpoint that is sampled from next.
The format: https://huggingface.co/docs/safetensors (8 bytes little-endian length of a JSON header,
the header, the tensors).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

ALIGNMENT = 4096
"""Aligns sizes and places past the page cache; disks ask for this or less."""
BUFFER_BYTES = 1 << 23
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
}


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Writes the file and returns its SHA-256, once it is on the disk. Raises OSError.

    The tensors may be on any device, and in any order in memory.
    """
    digest = hashlib.sha256()
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="hash") as hashing, Disk(path) as disk:
            for part in _parts(tensors):
                hashed = hashing.submit(digest.update, part)
                disk.write(part)
                hashed.result()
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or errno.EIO), str(path)) from error
    return digest.hexdigest()


def _parts(tensors: Mapping[str, Tensor]) -> Iterator[memoryview]:
    """Yields the file's bytes: its header, then one tensor after another."""
    header, place = {}, 0
    for name, tensor in tensors.items():
        end = place + tensor.nbytes
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [place, end],
        }
        place = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that tensors begin at a multiple of their items' size
    yield memoryview(struct.pack("<Q", len(text)) + text)
    for tensor in tensors.values():
        if tensor.numel():
            whole = tensor.detach().to("cpu").contiguous()
            yield whole.reshape(-1).view(torch.uint8).numpy().data


class Disk:
    """Is a new file, written past the page cache where its file system can; flushed at its end.

    Every method raises OSError.
    """

    def __init__(self, path: Path) -> None:
        self._fd = _open(path)
        self._buffer = mmap.mmap(-1, BUFFER_BYTES)  # begins at a page
        self._filled = 0
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            os.close(self._fd)

    def write(self, part: memoryview) -> None:
        """Writes bytes; some of them wait in the buffer."""
        done = 0
        while done < len(part):
            taken = min(len(part) - done, BUFFER_BYTES - self._filled)
            self._buffer[self._filled : self._filled + taken] = part[done : done + taken]
            self._filled += taken
            done += taken
            if self._filled == BUFFER_BYTES:
                self._empty(BUFFER_BYTES)
        self._size += len(part)

    def _finish(self) -> None:
        if self._filled:
            self._empty(-(-self._filled // ALIGNMENT) * ALIGNMENT)
        os.ftruncate(self._fd, self._size)
        os.fsync(self._fd)

    def _empty(self, num_bytes: int) -> None:
        """Writes so much of the buffer, which holds at least that, or is the file's end."""
        with memoryview(self._buffer) as buffer:
            done = 0
            while done < num_bytes:
                try:
                    written = os.write(self._fd, buffer[done:num_bytes])
                except OSError as error:
                    if error.errno != errno.EINVAL or not self._is_direct:
                        raise
                    written = 0
                done += written
                if done % ALIGNMENT or not written:
                    self._use_page_cache()
        self._filled = 0

    @property
    def _is_direct(self) -> bool:
        return bool(fcntl.fcntl(self._fd, fcntl.F_GETFL) & os.O_DIRECT)

    def _use_page_cache(self) -> None:
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
        fcntl.fcntl(self._fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)


def _open(path: Path) -> int:
    """Opens a file; where the page cache cannot be left out, through it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_DIRECT, 0o600)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.open(path, flags, 0o600)
