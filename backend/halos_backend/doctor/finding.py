"""One thing the doctor found, and sizes as it writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]

GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True)
class Finding:
    """`text` says what is; `fix` says what to do now, and is empty where all is well."""

    level: Level
    subject: str
    text: str
    fix: str = ""


def in_gib(num_bytes: float) -> str:
    """`3.2 GiB`; small sizes in MiB."""
    if num_bytes < GIB:
        return f"{num_bytes / MIB:.0f} MiB"
    return f"{num_bytes / GIB:.1f} GiB"
