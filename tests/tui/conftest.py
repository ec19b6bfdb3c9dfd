"""A person without any configuration of their own, on a terminal with colours."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder whose path is short and always equally long: screens break lines at their widths."""
    is_in_memory = os.environ.get("PYTEST_DEBUG_TEMPROOT") == "/dev/shm"
    root, prefix = ("/dev/shm", "") if is_in_memory else ("/tmp", "tui-")  # 9 characters
    with tempfile.TemporaryDirectory(prefix=prefix, dir=root) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def config_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this person's `config.toml` and `themes` would be."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    return tmp_path / "config" / "halos-tui"
