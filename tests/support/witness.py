"""Looks at a run all the time: two processes must never do the work of one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from tests.support.victims import Found, attempt_of, find, of_role

LOOK_EVERY_S = 0.2


class Witness:
    """A thread that writes down what must never be seen."""

    def __init__(self, mark: str, run: Path) -> None:
        self._mark = mark
        self._journal = str(run.resolve() / "events.jsonl")
        self._seen: list[str] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> list[str]:
        """What was seen."""
        self._stopped.set()
        self._thread.join()
        return self._seen

    def _watch(self) -> None:
        while not self._stopped.wait(LOOK_EVERY_S):
            for look in (self._writers, self._attempts):
                first = look()
                # both of one look may not have lived at the same moment; both of two looks did
                if _too_many(first) and _too_many(both := first & look()):
                    self._seen.append(f"{look.__name__}: {sorted(both)}")

    def _writers(self) -> set[str]:
        """Supervisors that have the journal open for writing.

        A supervisor's child is its image until it executes its own program, on a busy machine for
        34 ms (measured); no supervisor starts another.
        """
        supervisors = of_role(find(self._mark), "supervisor")
        pids = {process.pid for process in supervisors}
        return {
            f"{process.pid} started at {process.start_time}"
            for process in supervisors
            if process.parent not in pids and _writes(process, self._journal)
        }

    def _attempts(self) -> set[str]:
        tags = {
            process.attempt.decode() for process in find(self._mark) if process.attempt is not None
        }
        return {attempt for tag in tags if (attempt := attempt_of(tag)) is not None}


def _too_many(seen: set[str]) -> bool:
    """A round may be labelled while it is sampled; whether it does is the journal's to tell."""
    stages = sorted(Path(path).parent.name for path in seen)
    return len(seen) > 1 and stages != ["label", "sample"]


def _writes(process: Found, path: str) -> bool:
    folder = Path(f"/proc/{process.pid}")
    return any(_is_open_for_writing(folder, fd, path) for fd in _names(folder / "fd"))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  names of links that may be gone
    except OSError:
        return []


def _is_open_for_writing(folder: Path, fd: str, path: str) -> bool:
    read: Callable[[], str] = (folder / "fdinfo" / fd).read_text
    try:
        if str((folder / "fd" / fd).readlink()) != path:
            return False
        flags = next(line for line in read().splitlines() if line.startswith("flags:"))
    except (OSError, StopIteration):
        return False
    return int(flags.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
