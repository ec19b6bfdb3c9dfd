"""Writes what a person wants to keep into a file of theirs, never over another one unasked."""

from __future__ import annotations

from pathlib import Path

from halos_backend.errors import HalosError, UsageError

from halos_tui.formatting import visible


def chosen_path(text: str) -> Path:
    """The path that a person typed. Raises UsageError where that is nothing."""
    if not text.strip() or "\0" in text:
        raise UsageError("write it where? give the path of a file")
    return Path(text.strip()).expanduser()


def write_file(path: Path, text: str, *, overwrite: bool = False) -> bool:
    """False where there is such a file already. Raises HalosError when it cannot be written."""
    try:
        with path.open("w" if overwrite else "x", encoding="utf-8", errors="backslashreplace") as f:
            f.write(text)
    except FileExistsError:
        return False
    except OSError as error:
        raise HalosError(f"cannot write it: {error.strerror}: {visible(str(path))}") from error
    return True
