"""Reads a run's journal for the cases: whole lines only, and what a cut leaves of it."""

from __future__ import annotations

from pathlib import Path

from halos_backend.store.reader import run_journal
from halos_backend.store.state import RunState, fold


def whole_lines(content: bytes) -> list[bytes]:
    """Without a torn tail."""
    return content[: content.rfind(b"\n") + 1].splitlines()


def read_state(path: Path) -> RunState:
    return fold(run_journal(path).read())
