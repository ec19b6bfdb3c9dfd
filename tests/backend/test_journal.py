"""The journal: what a reader sees of a file that grows, tears, fills the disk or is damaged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from halos_backend.errors import CorruptFileError
from halos_backend.events import MetricsLogged, RunEvent, RunPaused, RunResumed, split_finite
from halos_backend.store.reader import attempt_journal, run_journal, tail_lines
from halos_backend.store.state import fold
from halos_backend.store.writer import EventWriter

from tests.support.journals import created, settings, supervised, whole_round

AWKWARD = RunPaused(t=-1.5e-07, reason='é € 😀 "quoted" \\ \n\r  \x01')


def write(path: Path, events: list[RunEvent]) -> bytes:
    with EventWriter(path) as writer:
        for event in events:
            writer.append(event)
    return path.read_bytes()


def small_journal() -> list[RunEvent]:
    made = settings()
    return [created(made), supervised(), *whole_round(1, made), AWKWARD]


def test_a_reader_gives_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, small_journal())

    assert run_journal(path).read() == small_journal()


def test_a_torn_tail_is_held_back_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    events = small_journal()
    content = write(path, events)
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]

    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        whole = events[: sum(end <= size for end in ends)]
        read: list[RunEvent] = run_journal(path).read()
        assert read == whole
        assert fold(read) == fold(whole)


def test_every_reader_sees_the_same_after_a_torn_tail_was_ended(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    before: list[RunEvent] = [AWKWARD]
    content = write(path, before)
    # numbers, literals, escapes and bytes of a character: a tail may end in the midst of each
    torn = b'{"type":"RunPaused","t":-1.5e+9,"x":[true,null,{"a":1}],"reason":"\\u20ac'
    torn += 'é😀"'.encode()

    for size in range(1, len(torn) + 1):
        path.write_bytes(content + torn[:size])
        follower = run_journal(path)
        seen: list[RunEvent] = follower.read()
        assert seen == before
        write(path, [RunResumed(t=2.0)])
        seen += follower.read()
        assert seen == [*before, RunResumed(t=2.0)], torn[:size]
        assert run_journal(path).read() == seen


def test_a_whole_record_without_its_newline_counts_once_it_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(write(path, [AWKWARD, RunResumed(t=1.0)])[:-1])
    follower = run_journal(path)
    assert follower.read() == [AWKWARD]

    write(path, [RunResumed(t=2.0)])

    assert follower.read() == [RunResumed(t=1.0), RunResumed(t=2.0)]
    assert run_journal(path).read() == [AWKWARD, RunResumed(t=1.0), RunResumed(t=2.0)]


def test_a_follower_reads_each_event_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    follower = run_journal(path)
    assert follower.read() == []
    write(path, [RunResumed(t=1.0)])
    assert follower.read() == [RunResumed(t=1.0)]
    assert follower.read() == []
    write(path, [AWKWARD])
    assert follower.read() == [AWKWARD]


def test_a_file_that_became_shorter_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    content = write(path, small_journal())
    follower = run_journal(path)
    follower.read()
    path.write_bytes(content[:-10])

    with pytest.raises(CorruptFileError, match=r"events\.jsonl became shorter"):
        follower.read()


@pytest.mark.parametrize(
    "line",
    [
        b"not json at all",
        b'{"type":"RunResumed","t":}',
        b'{"type":"RunPaused","t":1.0,"reason":"\xff\xfe"}',
        b'{"type":"RunPaused","t":null,"reason":"a"}',
        b'{"type":"RunResumed","t":1.0} {"type":"RunResumed","t":1.0}',
        b"\x00\x00\x00\x00",
        b'{"type":"RunResumed","t":1.0,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[]",
    ],
)
def test_a_corrupt_middle_line_is_named_by_file_and_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "events.jsonl"
    content = write(path, [RunResumed(t=1.0), AWKWARD])
    path.write_bytes(content + line + b"\n" + content)

    with pytest.raises(CorruptFileError, match=r"events\.jsonl, line 3: "):
        run_journal(path).read()


def test_a_corrupt_line_has_the_same_number_for_a_reader_that_came_late(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    content = write(path, [RunResumed(t=1.0), AWKWARD])
    path.write_bytes(content + b"rubbish\n")

    for reader in (run_journal(path, offset=len(content)), run_journal(path)):
        for _ in range(2):  # nothing is skipped by asking again
            with pytest.raises(CorruptFileError, match="line 3: "):
                reader.read()


def test_an_event_of_a_newer_version_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"type":"PolicyMerged","t":1.0}\n')

    with pytest.raises(CorruptFileError, match=r"line 1: .*newer version.*PolicyMerged"):
        run_journal(path).read()


def test_a_field_of_a_newer_version_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"type":"RunResumed","t":1.0,"by":"the guardian"}\n')

    assert run_journal(path).read() == [RunResumed(t=1.0)]


def test_numbers_that_are_not_finite_are_named_and_the_journal_stays_readable(
    tmp_path: Path,
) -> None:
    finite, names = split_finite({"loss": 0.5, "kl": float("nan"), "grad_norm": float("inf")})
    event = MetricsLogged(
        t=1.0, round=1, stage="train", attempt=1, step=3, metrics=finite, non_finite=names
    )
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as writer:
        writer.append(event)

    (read,) = attempt_journal(path).read()

    assert read == event
    assert isinstance(read, MetricsLogged)
    assert read.metrics == {"loss": 0.5}
    assert read.non_finite == ["kl", "grad_norm"]


FILL_THE_DISK = """
import resource, sys
from pathlib import Path
from halos_backend.events import RunPaused
from halos_backend.store.writer import EventWriter

path, limit = Path(sys.argv[1]), int(sys.argv[2])
writer = EventWriter(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
written = 0
try:
    while True:
        writer.append(RunPaused(t=float(written), reason="x" * 40), durable=written % 2 == 0)
        written += 1
except OSError as error:
    assert str(path) in str(error), error
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.append(RunPaused(t=-1.0, reason="room again"))
print(written)
"""


@pytest.mark.parametrize("limit", [1, 90, 400, 401, 463])
def test_on_a_full_disk_a_record_is_written_whole_or_not_at_all(tmp_path: Path, limit: int) -> None:
    path = tmp_path / "events.jsonl"

    done = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, str(path), str(limit)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    times = [event.t for event in run_journal(path).read()]
    assert times == [*map(float, range(int(done.stdout))), -1.0]
    assert path.read_bytes().count(b"\n") == len(times)


def test_the_tail_of_a_log_is_decoded_whatever_its_bytes(tmp_path: Path) -> None:
    log = tmp_path / "stdout.log"
    log.write_bytes(b"x" * 200_000 + b"\n10%\r20%\r30%\nlast \xff line")

    assert tail_lines(log, 3) == ["20%", "30%", "last \ufffd line"]
    assert tail_lines(tmp_path / "absent", 3) == []
    assert tail_lines(tmp_path, 3) == []


def test_a_record_is_one_line_whatever_its_text() -> None:
    assert b"\n" not in msgspec.json.encode(AWKWARD)
