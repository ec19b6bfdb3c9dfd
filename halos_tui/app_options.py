"""Owns the app's options; it stands alone so that the command line imports nothing that draws."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class AppOptions:
    """`runs_root` is where runs live. Without `theme` the key map file's theme holds, or the
    default.
    """

    runs_root: Path
    read_only: bool = False
    is_ascii: bool = False
    mouse: bool = True
    theme: str | None = None
