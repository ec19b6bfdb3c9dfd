"""What the command line says about the app. Known without importing what draws."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class AppOptions:
    """`runs_root` is where runs live; without `theme` the key map file's, or the default."""

    runs_root: Path
    read_only: bool = False
    is_ascii: bool = False
    mouse: bool = True
    theme: str | None = None
