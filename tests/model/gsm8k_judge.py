"""A judge for GSM8K: is the last number the answer, and if not, how near is it?"""

from __future__ import annotations

import math
import re
from typing import Any

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def reward(prompt: list[dict[str, str]], completion: str, row: dict[str, Any]) -> float | None:
    """1 for the right number, less than 0.5 for a wrong one, 0 for none."""
    wanted = _last_number(row["answer"].split("####")[-1])
    if wanted is None:
        return None
    given = _last_number(completion)
    if given is None:
        return 0.0
    if given == wanted:
        return 1.0
    return 0.5 / (1.0 + abs(math.log1p(abs(given)) - math.log1p(abs(wanted))) + 0.01)


def _last_number(text: str) -> float | None:
    found = NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None
