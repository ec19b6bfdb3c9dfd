"""Files cut at every byte, for everything that reads them: whole records, or a named refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from halos_backend.config.schema import RunSettings
from halos_backend.records import Group, read_rows
from halos_backend.store.manifest import read_done
from halos_backend.store.reader import attempt_journal, run_journal
from halos_backend.store.registry import load_state
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState, fold
from halos_backend.store.writer import EventWriter
from halos_backend.supervisor.plan import StartRound, StartStage, plan

from tests.support.reference import NAME, Reference

Record = Callable[[str, object], None]
NOW = 2e9


def _next_starts(state: RunState) -> list[tuple[int, str]]:
    """What `plan` would start in that state."""
    if not state.settings:
        return []
    settings = RunSettings.model_validate(state.settings_of(state.round_at_hand))
    actions = plan(state, settings, NOW)
    return [(a.round, a.stage) for a in actions if isinstance(a, StartStage)] + [
        (a.round, "") for a in actions if isinstance(a, StartRound)
    ]


def test_a_journal_cut_at_every_byte_folds_to_its_whole_records(
    reference: Reference, tmp_path: Path, record_property: Record
) -> None:
    """The oracle is the whole records before the cut; no finished stage is begun again."""
    content = (reference.finished / "events.jsonl").read_bytes()
    path = tmp_path / "events.jsonl"
    path.write_bytes(content)
    events = run_journal(path).read()
    ends = [index + 1 for index, byte in enumerate(content) if byte == 10]
    for count in range(len(events) + 1):
        finished = {(e.round, e.stage) for e in events[:count] if hasattr(e, "summary")}
        assert not finished & set(_next_starts(fold(events[:count]))), f"after {count} records"
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        count = sum(end <= cut for end in ends)
        # equal events fold to equal states
        assert run_journal(path).read() == events[:count], f"cut at byte {cut}"
    record_property("cuts", len(content) + 1)


def test_a_journal_cut_at_every_byte_is_gone_on_with(
    reference: Reference, tmp_path: Path, record_property: Record
) -> None:
    """The next writer ends the torn tail; nothing before it is lost, nothing after it unread."""
    content = (reference.finished / "events.jsonl").read_bytes()
    path = tmp_path / "events.jsonl"
    path.write_bytes(content)
    events = run_journal(path).read()
    ends = [index + 1 for index, byte in enumerate(content) if byte == 10]
    last = events[-1]
    for cut in range(1, len(content) + 1):
        count = sum(end <= cut for end in ends)
        first = max(0, count - 1)  # of what stands before, one record is as good as all
        path.write_bytes(content[ends[first - 1] if first else 0 : cut])
        is_whole_but_for_its_end = cut + 1 in ends
        with EventWriter(path) as writer:
            writer.append(last)
        found = run_journal(path).read()
        whole = events[first : count + is_whole_but_for_its_end]
        assert found == [*whole, last], f"cut at byte {cut}"
    record_property("cuts", len(content))


def test_a_snapshot_that_is_ahead_of_a_cut_journal_is_not_believed(
    reference: Reference, tmp_path: Path, record_property: Record
) -> None:
    run = RunDir(tmp_path / NAME)
    run.path.mkdir()
    content = (reference.finished / "events.jsonl").read_bytes()
    snapshot = (reference.finished / "state.json").read_bytes()
    cuts = range(0, len(content), 7)
    for cut in cuts:
        run.events.write_bytes(content[:cut])
        run.state.write_bytes(snapshot)
        if cut:
            assert load_state(run) == fold(run_journal(run.events).read()), f"cut at byte {cut}"
    run.events.write_bytes(content)
    for cut in range(0, len(snapshot), 7):
        run.state.write_bytes(snapshot[:cut])
        assert load_state(run).status == "completed", f"snapshot cut at byte {cut}"
    record_property("cuts", len(cuts) + len(range(0, len(snapshot), 7)))


def test_done_cut_at_every_byte_is_no_done_or_the_whole_one(
    reference: Reference, tmp_path: Path, record_property: Record
) -> None:
    num_cuts = 0
    for done in sorted(reference.finished.glob("rounds/0002/*/*/DONE")):
        whole = read_done(done.parent)
        content = done.read_bytes()
        for cut in range(len(content)):
            (tmp_path / "DONE").write_bytes(content[:cut])
            assert read_done(tmp_path) in (None, whole), f"{done} cut at byte {cut}"
        num_cuts += len(content)
    record_property("cuts", num_cuts)


def test_rows_and_attempt_journals_cut_at_every_byte_give_their_whole_lines(
    reference: Reference, tmp_path: Path, record_property: Record
) -> None:
    attempt = reference.finished / "rounds" / "0001" / "sample" / "attempt_1"
    readers: dict[str, Callable[[Path], list[Any]]] = {
        "completions.jsonl": lambda path: list(read_rows(path, Group, torn_tail=True)),
        "events.jsonl": lambda path: attempt_journal(path).read(),
    }
    num_cuts = 0
    for name, read in readers.items():
        content = (attempt / name).read_bytes()
        path = tmp_path / name
        path.write_bytes(content)
        rows = read(path)
        for cut in range(1, len(content)):
            path.write_bytes(content[:cut])
            count = content[:cut].count(b"\n")
            found = read(path)
            assert found in (rows[:count], rows[: count + 1]), f"{name} cut at byte {cut}"
            assert len(found) == count or content[cut : cut + 1] == b"\n"
        num_cuts += len(content)
    record_property("cuts", num_cuts)
