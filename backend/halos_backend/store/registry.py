"""Lists the runs under a root, and loads one run's state: from its snapshot if sound, else its
journal.

`state.json` is the fold up to a journal offset, so that a list of many runs opens few journals.
"""

from __future__ import annotations

from pathlib import Path
from stat import S_ISREG
from typing import Any

import msgspec
from msgspec.structs import replace

from halos_backend import SCHEMA_VERSION, __version__, atomic
from halos_backend.errors import CorruptFileError, UsageError
from halos_backend.records import BAD_JSON
from halos_backend.store.reader import run_journal
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState, fold


class HeldSettings(msgspec.Struct, frozen=True):
    """Holds the settings of the rounds from `from_round` on, up to the next entry's."""

    from_round: int
    settings: dict[str, Any]


class Snapshot(msgspec.Struct, frozen=True):
    """Is the fold of the journal's first `offset` bytes.

    On disk the rounds' settings are in `settings` alone: once, not once a round.
    """

    offset: int
    state: RunState
    settings: tuple[HeldSettings, ...]
    schema_version: int = SCHEMA_VERSION


_decoder = msgspec.json.Decoder(Snapshot)


def write_snapshot(run_dir: RunDir, state: RunState, *, offset: int) -> None:
    settings: list[HeldSettings] = []
    for round in state.rounds:
        if not settings or settings[-1].settings != round.settings:
            settings.append(HeldSettings(round.round, round.settings))
    bare = replace(state, rounds=tuple(replace(round, settings={}) for round in state.rounds))
    snapshot = Snapshot(offset, bare, tuple(settings))
    atomic.write_bytes(run_dir.state, msgspec.json.encode(snapshot) + b"\n", durable=False)


def load_state(run_dir: RunDir) -> RunState:
    """Returns the run's state as of now. Raises CorruptFileError."""
    snapshot = read_snapshot(run_dir)
    if snapshot is None:
        return fold(run_journal(run_dir.events).read())
    return fold(run_journal(run_dir.events, offset=snapshot.offset).read(), snapshot.state)


def list_runs(root: Path) -> list[RunDir]:
    """Returns every run under `root`, newest journal first."""
    try:
        candidates = [RunDir(path) for path in root.iterdir() if not path.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    dated = []
    for run_dir in candidates:
        try:
            status = run_dir.events.stat()
        except OSError:
            continue
        if S_ISREG(status.st_mode):
            dated.append((status.st_mtime, run_dir.name, run_dir))
    return [run_dir for _, _, run_dir in sorted(dated, reverse=True)]


def check_readable(state: RunState, run_dir: RunDir) -> RunState:
    """Returns the state. Raises CorruptFileError for a journal that says nothing of a run,
    UsageError for a run of a later version, which this one could only harm.
    """
    if not state.run:
        raise CorruptFileError(f"{run_dir.events}: no RunCreated; this is no run's journal")
    if state.schema_version > SCHEMA_VERSION:
        raise UsageError(
            f"the run {state.run} was made by a later halos-tui ({state.version}, schema"
            f" {state.schema_version}; this one is {__version__}, schema {SCHEMA_VERSION}):"
            " install that version to go on with it"
        )
    return state


def read_snapshot(run_dir: RunDir) -> Snapshot | None:
    """Reads the snapshot; None where it is missing, unreadable, of another version, or not of this
    journal.
    """
    try:
        snapshot = _decoder.decode(run_dir.state.read_bytes())
        if snapshot.schema_version != SCHEMA_VERSION or snapshot.offset < 1:
            return None
        with run_dir.events.open("rb") as journal:
            journal.seek(snapshot.offset - 1)
            return _with_settings(snapshot) if journal.read(1) == b"\n" else None
    except (OSError, *BAD_JSON):
        return None


def _with_settings(snapshot: Snapshot) -> Snapshot:
    """Gives each round its settings; rounds with equal ones share one object."""
    held = iter(snapshot.settings)
    current, following = next(held, None), next(held, None)
    rounds = []
    for round in snapshot.state.rounds:
        if following is not None and following.from_round <= round.round:
            current, following = following, next(held, None)
        rounds.append(round if current is None else replace(round, settings=current.settings))
    return replace(snapshot, state=replace(snapshot.state, rounds=tuple(rounds)))
