"""Makes the environment of a process of ours that starts in another working directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def importable_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with an absolute PYTHONPATH."""
    made = dict(environment)
    if paths := made.get("PYTHONPATH"):
        made["PYTHONPATH"] = os.pathsep.join(
            str(Path(path).resolve()) for path in paths.split(os.pathsep) if path
        )
    return made
