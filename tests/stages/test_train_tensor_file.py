"""Tensors go to the disk past the page cache, where it can be passed, and are hashed on the way."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from halos_backend.stages.train import tensor_file
from halos_backend.stages.train.tensor_file import ALIGNMENT, BUFFER_BYTES, Disk, write_tensors
from safetensors.torch import load_file
from torch import Tensor


def some_tensors() -> dict[str, Tensor]:
    numbers = torch.Generator().manual_seed(0)
    return {
        "long": torch.randn(BUFFER_BYTES // 4 + 1001, generator=numbers),
        "transposed": torch.randn(33, 17, generator=numbers).t(),
        "half": torch.randn(5, 3, generator=numbers).to(torch.bfloat16),
        "double": torch.randn(3, generator=numbers, dtype=torch.float64),
        "step": torch.tensor(7.0),
        "none": torch.empty(0, 4),
        'ünicode "name"': torch.arange(9),
    }


def check(path: Path, tensors: dict[str, Tensor], digest: str) -> None:
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    found = load_file(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_safetensors_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    check(path, some_tensors(), write_tensors(path, some_tensors()))
    check(path, {}, write_tensors(path, {}))  # shorter than what was there


def test_a_file_system_in_memory_will_do() -> None:
    path = Path(f"/dev/shm/halos-tui-test-{os.getpid()}")
    try:
        check(path, some_tensors(), write_tensors(path, some_tensors()))
    finally:
        path.unlink()


@pytest.mark.parametrize("size", [0, 1, ALIGNMENT - 1, ALIGNMENT, BUFFER_BYTES, BUFFER_BYTES + 1])
def test_files_have_their_own_size_whatever_the_disk_asks_for(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    with Disk(tmp_path / "file") as disk:
        disk.write(memoryview(content[: size // 3]))
        disk.write(memoryview(content[size // 3 :]))
    assert (tmp_path / "file").read_bytes() == content


def test_a_disk_that_refuses_or_stops_half_way_is_written_through_the_page_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As network file systems do: opened without the page cache, but not written."""
    write, calls = os.write, []

    def moody(fd: int, data: Any) -> int:
        calls.append(len(data))
        if len(calls) == 1:
            raise OSError(errno.EINVAL, "Invalid argument")
        return write(fd, data[:1000]) if len(calls) == 2 else write(fd, data)

    monkeypatch.setattr(tensor_file.os, "write", moody)
    path = tmp_path / "some.safetensors"
    digest = write_tensors(path, some_tensors())
    monkeypatch.undo()
    assert len(calls) > 2
    check(path, some_tensors(), digest)


def test_a_full_disk_is_an_error_that_names_the_file() -> None:
    with pytest.raises(OSError, match="No space left on device: '/dev/full'") as raised:
        write_tensors(Path("/dev/full"), some_tensors())
    assert raised.value.errno == errno.ENOSPC


def test_what_the_disk_refuses_for_good_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, data: Any) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(tensor_file.os, "write", refuse)
    with pytest.raises(OSError, match="Invalid argument"):
        write_tensors(tmp_path / "file", {"a": torch.ones(3)})
