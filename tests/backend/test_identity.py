"""Processes told apart: what has the same pid is not the same process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from halos_backend.events import ProcessIdentity
from halos_backend.store.identity import (
    identify,
    is_alive,
    lock_holder,
    own_identity,
    process_status,
    recorded_holder,
    send_signal,
)
from halos_backend.store.run_dir import RunDir
from halos_backend.supervisor.heartbeat import take_lock
from msgspec.structs import replace


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for its standard input to close."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as process:
        yield process
        process.kill()


def test_a_living_process_is_alive_until_it_is_a_zombie(child: subprocess.Popen[bytes]) -> None:
    identity = identify(child.pid)
    assert is_alive(identity)

    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert process_status(child.pid) is not None, "not reaped yet"
    assert not is_alive(identity)
    child.wait()
    assert not is_alive(identity)
    with pytest.raises(ProcessLookupError):
        identify(child.pid)


@pytest.mark.parametrize(
    "change",
    [{"start_time": 1.0}, {"boot_id": "another boot"}, {"host": "elsewhere"}, {"pid": 2**22 + 1}],
)
def test_a_forged_identity_is_not_alive(change: dict[str, float]) -> None:
    assert is_alive(own_identity())
    assert not is_alive(replace(own_identity(), **change))


def test_a_process_that_has_anothers_pid_gets_no_signal(child: subprocess.Popen[bytes]) -> None:
    identity = identify(child.pid)

    assert not send_signal(identity.pid, identity.start_time - 0.01, signal.SIGKILL)
    assert is_alive(identity)
    assert send_signal(identity.pid, identity.start_time, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not send_signal(identity.pid, identity.start_time, signal.SIGKILL)


def test_a_program_may_be_called_anything(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b") Z 1 1 (\xff")
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([odd, "100"]) as process:
        # the name changes when exec is through, which Popen waits for
        status = process_status(process.pid)
        process.kill()

    assert status is not None
    assert status.parent == os.getpid()


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff", b'{"pid":1}', b'{"pid":1,"boot_id":"\xff"}', b"[" * 100_000]
)
def test_a_lock_file_of_rubbish_names_no_holder(tmp_path: Path, content: bytes) -> None:
    RunDir(tmp_path).lock.write_bytes(content)

    assert lock_holder(RunDir(tmp_path)) is None


def test_the_holder_is_told_apart_from_one_that_died(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    fd = take_lock(run_dir)
    assert lock_holder(run_dir) == own_identity()
    os.close(fd)

    gone = ProcessIdentity(pid=os.getpid(), start_time=1.0, boot_id="b", host="elsewhere")
    run_dir.lock.write_bytes(msgspec.json.encode(gone))

    assert lock_holder(run_dir) is None
    assert recorded_holder(run_dir) == gone
