"""Whether rewards of two rounds can be compared: what of a judge's settings they depend on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LAST_DIGITS = frozenset({"engine", "vllm"})
"""Settings that move rewards by no more than rounding does."""


def judging(judge: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a judge, as plain JSON, but for those that only change last digits."""
    return {name: value for name, value in judge.items() if name not in LAST_DIGITS}
