"""Guards a run: starts its supervisor again when that dies, and takes in orphaned stages.

`client.start` runs this program by its path, as `python -I -S guardian.py --run-dir DIR --
COMMAND...`. It lives as long as the run does, so it imports nothing of this package and little of
the standard library: 9 MB, most of it the interpreter. It sleeps in the kernel until a child ends
or it is told to stop, and it stops nothing itself: SIGTERM is passed on to the supervisor.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from typing import Any

FINAL_CODES = frozenset({0, 2, 4, 5})
"""Lists exit codes that another start would not change: paused or ended, wrong usage, no such run,
in use.
"""
FAILED = 1
MAX_STARTS = 8
SETTLED_S = 60.0
"""Is how long a supervisor must live to count as well; then earlier restarts are forgotten."""
MAX_DELAY_S = 60.0
FIRST_DELAY_S = "HALOS_GUARDIAN_DELAY_S"
"""Names the environment variable of the wait before the third start, doubled for each further one;
1 s.
"""
OOM_SCORE_ADJ = -500
JOURNAL_TAIL_BYTES = 1 << 20
PR_SET_CHILD_SUBREAPER = 36
AWAITED = frozenset({signal.SIGCHLD, signal.SIGTERM})
START_TIME_FIELD = 19
"""Is the place of the start time in proc(5)'s `stat`, counted from behind the program's name."""


class Restarts:
    """Decides whether and when a supervisor that died is started again."""

    def __init__(self, first_delay_s: float = 1.0) -> None:
        self._first_delay_s = first_delay_s
        self._in_a_row = 0

    def delay_s(self, lived_s: float) -> float | None:
        """Returns seconds to wait after a supervisor lived `lived_s`: 0, 1, 2, 4, ...; None to give
        up.
        """
        if lived_s >= SETTLED_S:
            self._in_a_row = 0
        self._in_a_row += 1
        if self._in_a_row >= MAX_STARTS:
            return None
        if self._in_a_row == 1:
            return 0.0
        delay: float = self._first_delay_s * 2 ** (self._in_a_row - 2)
        return min(delay, MAX_DELAY_S)


class Guardian:
    """Guards one run. Its process must be single-threaded, with the `AWAITED` signals blocked."""

    def __init__(self, run_dir: str, command: list[str], restarts: Restarts) -> None:
        self._run_dir = run_dir
        self._command = command
        self._restarts = restarts
        self._supervisor: int | None = None
        self._started = 0.0
        self._start_at = time.monotonic()
        self._is_told_to_stop = False
        self._first_size = _journal_size(run_dir)
        self._has_restarted = False

    def run(self) -> int:
        """Guards until the supervisor needs no other start; returns the exit code to leave with."""
        while True:
            if self._supervisor is None and time.monotonic() >= self._start_at:
                ended = self._start()
            else:
                if self._next_signal() == signal.SIGTERM:
                    self._tell_to_stop()
                ended = self._reap()
            if ended is not None and (code := self._after(ended)) is not None:
                return code

    def _start(self) -> int | None:
        """Starts the supervisor; returns an exit code in its place if that is impossible.

        It gets a session of its own, so that killing its process group spares the guardian. SIGTERM
        stays blocked until the supervisor can pause the run in good order.
        """
        self._started = time.monotonic()
        try:
            self._supervisor = os.posix_spawn(
                self._command[0],
                self._command,
                os.environ,
                setsid=True,
                setsigmask=[signal.SIGTERM],
            )
        except OSError as error:
            say(f"the supervisor cannot be started: {error}")
            return FAILED
        if self._is_told_to_stop:
            os.kill(self._supervisor, signal.SIGTERM)
        return None

    def _next_signal(self) -> int | None:
        """Sleeps until a child ends, SIGTERM comes, or the supervisor is to be started."""
        if self._supervisor is not None:
            return signal.sigwaitinfo(AWAITED).si_signo
        left = max(0.0, self._start_at - time.monotonic())
        caught = signal.sigtimedwait(AWAITED, left)
        return None if caught is None else caught.si_signo

    def _tell_to_stop(self) -> None:
        """Passes SIGTERM on; a supervisor that is yet to start does so now, and pauses the run."""
        self._is_told_to_stop = True
        self._start_at = time.monotonic()
        if self._supervisor is not None:
            os.kill(self._supervisor, signal.SIGTERM)  # not reaped yet, so the pid is its own

    def _reap(self) -> int | None:
        """Takes in every child that has ended; returns how the supervisor did, if it is among them.

        What an orphaned stage leaves is written down before its pid is given up, and before the
        next supervisor starts.
        """
        ended: int | None = None
        while (zombie := _next_zombie()) is not None:
            pid, code = zombie
            if pid == self._supervisor:
                ended = code
            else:
                leave_exit_code(self._run_dir, pid, code)
            os.waitpid(pid, 0)
        return ended

    def _after(self, ended: int) -> int | None:
        """Returns the exit code to leave with after the supervisor ended, or None: it is started
        again.
        """
        self._supervisor = None
        if ended in FINAL_CODES or self._did_not_start(ended):
            return ended
        how = f"was killed by signal {-ended}" if ended < 0 else f"ended with exit code {ended}"
        if self._is_told_to_stop:
            say(f"the supervisor {how} when it was told to stop")
            return FAILED
        delay_s = self._restarts.delay_s(time.monotonic() - self._started)
        if delay_s is None:
            say(f"the supervisor {how}, {MAX_STARTS} times in a row; giving up")
            return FAILED
        say(f"the supervisor {how}; starting it again" + (f" in {delay_s:g} s" if delay_s else ""))
        self._start_at = time.monotonic() + delay_s
        self._has_restarted = True
        return None

    def _did_not_start(self, ended: int) -> bool:
        """Says whether the first supervisor refused before it wrote anything; its client
        says why.
        """
        untouched = _journal_size(self._run_dir) == self._first_size
        return ended > 0 and not self._has_restarted and untouched


def become_subreaper() -> None:
    """Lets orphans among this process's descendants become its children, and nobody else's."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def leave_exit_code(run_dir: str, pid: int, exit_code: int) -> None:
    """Writes `exit.json` for the stage whose first process is this zombie; of others nothing.

    The next supervisor reads it, because the stage was not its child.
    """
    try:
        path = _attempt_path(run_dir, pid, _start_time(pid))
        if path is None or os.path.exists(f"{path}/exit.json"):  # noqa: PTH110  pathlib is 2 MB
            return
        temporary = f"{path}/.exit.json.{os.getpid()}.tmp"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, json.dumps({"exit_code": exit_code, "t": time.time()}).encode() + b"\n")
        finally:
            os.close(fd)
        os.rename(temporary, f"{path}/exit.json")  # noqa: PTH104
    except OSError as error:  # a full disk; the stage then counts as lost
        say(f"the exit code {exit_code} of process {pid} is not written down: {error}")


def say(text: str) -> None:
    """Writes one line of supervisor.log."""
    try:
        os.write(2, f"guardian: {text}\n".encode())
    except OSError:
        return


def _next_zombie() -> tuple[int, int] | None:
    """Returns (pid, exit code) of a child that has ended and is not reaped; negative for
    a signal.
    """
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if found is None:
        return None
    by_itself = found.si_code == os.CLD_EXITED
    return found.si_pid, found.si_status if by_itself else -found.si_status


def _start_time(pid: int) -> float:
    """Returns seconds from boot."""
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
        stat = file.read()
    ticks = int(stat[stat.rindex(b")") + 2 :].split()[START_TIME_FIELD])
    return ticks / os.sysconf("SC_CLK_TCK")


def _attempt_path(run_dir: str, pid: int, start_time: float) -> str | None:
    """Returns the attempt whose first process it is, by the newest event of the journal that says
    so.
    """
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123
        boot_id = file.read().strip()
    process = {"pid": pid, "start_time": start_time, "boot_id": boot_id}
    for line in reversed(_journal_tail(run_dir).split(b"\n")):
        if b"StageStarted" not in line and b"StageAdopted" not in line:
            continue
        match _decode(line):
            case {
                "type": "StageStarted" | "StageAdopted",
                "process": {**found},
                "round": int(round),
                "stage": str(stage),
                "attempt": int(attempt),
            } if found.items() >= process.items() and stage.isalpha():
                return f"{run_dir}/rounds/{round:04d}/{stage}/attempt_{attempt}"
    return None


def _decode(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _journal_tail(run_dir: str) -> bytes:
    with open(f"{run_dir}/events.jsonl", "rb") as file:  # noqa: PTH123
        file.seek(max(0, os.fstat(file.fileno()).st_size - JOURNAL_TAIL_BYTES))
        return file.read()


def _journal_size(run_dir: str) -> int:
    try:
        return os.stat(f"{run_dir}/events.jsonl").st_size  # noqa: PTH116
    except OSError:
        return 0


def _spare_from_memory_shortage() -> None:
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(str(OOM_SCORE_ADJ))
    except OSError:
        return  # only root may


def _first_delay_s() -> float:
    return float(os.environ.get(FIRST_DELAY_S, "1"))


def main() -> int:
    match sys.argv[1:]:
        case ["--run-dir", run_dir, "--", *command] if command:
            become_subreaper()
            _spare_from_memory_shortage()
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
            return Guardian(run_dir, command, Restarts(_first_delay_s())).run()
        case _:
            say("usage: guardian.py --run-dir DIR -- COMMAND...")
            return 2


if __name__ == "__main__":
    sys.exit(main())
