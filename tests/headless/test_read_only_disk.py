"""A run directory whose disk is mounted read-only: looking is all one can do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from halos_backend.events import RunPaused

from tests.support.made_run import STARTED_T, MadeRun


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk that `make_read_only` makes so."""
    path = tmp_path / "disk"
    path.mkdir()
    if not is_done("mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "tmpfs", str(path)):
        pytest.skip("this user may not mount a disk")
    yield path
    assert is_done("umount", str(path))


def is_done(*command: str) -> bool:
    try:
        return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0
    except FileNotFoundError:
        return False


def make_read_only(disk: Path) -> None:
    assert is_done("mount", "-o", "remount,ro", str(disk))


def halos(disk: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "halos_tui", *arguments, "--runs-dir", str(disk)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("verb", "problem"),
    [
        (("resume", "a-run"), "its disk is mounted read-only"),
        (("set", "a-run", "train.lr=1e-6"), "its disk is mounted read-only"),
        (("abort", "a-run", "--yes"), "its disk is mounted read-only"),
        (("rm", "a-run", "--yes"), "Read-only file system; nothing was changed"),
        (("demo", "--no-ui"), "Read-only file system"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_would_write_is_refused_in_one_line(
    disk: Path, verb: tuple[str, ...], problem: str
) -> None:
    run = MadeRun(disk)
    run.whole_round(1)
    run.say(RunPaused(t=STARTED_T + 20, reason="by its owner, after round 1"))
    make_read_only(disk)

    done = halos(disk, *verb)

    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("halos-tui: ")
    assert problem in line
    assert [path.name for path in disk.iterdir()] == ["a-run"]


@pytest.mark.parametrize("verb", [("list",), ("status", "a-run"), ("du",)])
def test_it_can_be_looked_at(disk: Path, verb: tuple[str, ...]) -> None:
    MadeRun(disk).whole_round(1)
    make_read_only(disk)

    assert halos(disk, *verb).returncode == 0
