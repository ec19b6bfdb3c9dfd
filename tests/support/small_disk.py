"""A disk that fills up: a small tmpfs, or a limit on file sizes where mounting is refused.

Both make the run's writes fail with an error of the file system; `relieve` ends that.
"""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path
from types import TracebackType

from tests.support.victims import find

SIZE = 64 << 20


class SmallDisk:
    """A folder for one run. Full means: nothing but `spare` bytes more can be written."""

    def __init__(self, path: Path, mark: str) -> None:
        self.path = path
        self._mark = mark
        self._ballast = path / "ballast"
        path.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", str(path)]
        try:
            done = subprocess.run(mount, stderr=subprocess.DEVNULL)
            self.is_mounted = done.returncode == 0
        except FileNotFoundError:
            self.is_mounted = False

    @property
    def kind(self) -> str:
        return "tmpfs" if self.is_mounted else "RLIMIT_FSIZE"

    def fill(self, spare: int) -> None:
        """From now on writes fail, after `spare` more bytes on the disk or in one file."""
        if not self.is_mounted:
            for process in find(self._mark):
                limit_file_size(process.pid, spare)
            return
        with self._ballast.open("wb", buffering=0) as file:
            free = os.statvfs(self.path)
            left = free.f_bavail * free.f_frsize - spare
            file.write(b"\0" * max(0, left))

    def relieve(self) -> None:
        """Space is free again; a limit ends with the processes that have it."""
        self._ballast.unlink(missing_ok=True)

    def __enter__(self) -> SmallDisk:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.is_mounted:
            subprocess.run(["umount", "--lazy", str(self.path)], check=True)


def limit_file_size(pid: int, limit: int) -> None:
    """Of a process and all that it will start; a write beyond it fails with EFBIG."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
