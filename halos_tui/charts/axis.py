"""Computes axes: where a value lies on them, and ticks at 1, 2 or 5 times a power of ten."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from halos_tui.formatting import PLAIN, ROUNDING, fixed, magnitude, number

LARGEST = sys.float_info.max
LARGEST_STEP = 1e308
SMALLEST_LOG = 1e-300
SAME = 1e-12
"""Values that differ by a smaller share than this are one value on an axis."""
WHOLE = 1e-6
"""The room around a single whole number is at least such a share of it."""
MIN_DIGITS = 6
"""A label with a power of ten may have so many significant digits, more where ticks need them."""
MAX_DIGITS = 15
NEAR = 1e-9
"""A value meets a tick when it misses it by a smaller share of a step than this."""
ENOUGH = 0.8
"""A step may be so much shorter than asked for, which gives a few more ticks."""


@dataclass(frozen=True)
class Scale:
    """A scale runs from `low` to a higher `high`, both finite, and above 0 where `is_log`."""

    low: float
    high: float
    is_log: bool = False

    def share(self, value: float) -> float:
        """Returns 0 at `low`, 1 at `high`, and NaN for a value that has no place."""
        return self.shares([value])[0]

    def shares(self, values: Iterable[float]) -> list[float]:
        """Returns the `share` of each value."""
        low, high = self._flat(self.low) / 2, self._flat(self.high) / 2
        flat = map(self._flat, values) if self.is_log else values
        return [
            (value / 2 - low) / (high - low) if math.isfinite(value) else math.nan for value in flat
        ]

    def value(self, share: float) -> float:
        """Returns the value at a share: the inverse of `share`."""
        low, high = self._flat(self.low), self._flat(self.high)
        flat = low * (1 - share) + high * share
        return 10**flat if self.is_log else flat

    def _flat(self, value: float) -> float:
        if not self.is_log:
            return value
        return math.log10(value) if value > 0 else math.nan


@dataclass(frozen=True)
class Axis:
    """An axis is a scale with its ticks in ascending order."""

    scale: Scale
    ticks: tuple[float, ...]

    def labels(self, write: Callable[[float], str] | None = None) -> list[str]:
        """Returns one text a tick, precise enough to tell the ticks apart."""
        if self.scale.is_log:
            write = write or number
        return [write(tick) for tick in self.ticks] if write else tick_labels(self.ticks)


def linear_axis(
    low: float,
    high: float,
    *,
    num_ticks: int,
    is_whole: bool = False,
    fixed: tuple[bool, bool] = (False, False),
    parts: int = 1,
) -> Axis:
    """Returns an axis with about `num_ticks` ticks, whose ends seldom move while values come in.

    An end that is not `fixed` moves outwards to a tick, or to the next of `parts` between two.
    """
    if not is_whole and not any(fixed) and max(abs(low), abs(high)) < ROUNDING:
        low = high = 0.0  # labels of such ticks would all be 0
    low, high = _apart(low, high, fixed=fixed, least=1.0 if is_whole else 0.0)
    factor, power = _tick_step(high / 2 - low / 2, max(1, num_ticks - 1), is_whole=is_whole)
    step = _times(factor, power)
    first = (
        low if fixed[0] else _times(factor * math.floor(low / step * parts + NEAR), power, parts)
    )
    last = (
        high if fixed[1] else _times(factor * math.ceil(high / step * parts - NEAR), power, parts)
    )
    places = range(math.ceil(first / step - NEAR), math.floor(last / step + NEAR) + 1)
    ticks = [_times(factor * place, power) for place in places]
    scale = Scale(min(first, low), max(last, high))
    return Axis(scale, tuple(tick for tick in ticks if scale.low <= tick <= scale.high))


def log_axis(
    low: float, high: float, *, num_ticks: int, fixed: tuple[bool, bool] = (False, False)
) -> Axis:
    """Puts ticks at powers of ten, or at 1, 2 and 5 times them where there are few. Both ends are
    above 0.
    """
    low, high = max(low, SMALLEST_LOG), max(high, SMALLEST_LOG)
    if high <= low * (1 + SAME):
        low, high = (low if fixed[0] else low / 2), (high if fixed[1] else min(LARGEST, low * 2))
        high = max(high, low * 2)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = [(power, factor) for power in powers for factor in (1, 2, 5)]
    nice = [_times(factor, power) for power, factor in steps]
    low = low if fixed[0] else max(tick for tick in nice if tick <= low * (1 + SAME))
    high = high if fixed[1] else min([tick for tick in nice if tick >= high * (1 - SAME)] or [high])
    return Axis(Scale(low, high, is_log=True), _log_ticks(low, high, num_ticks=num_ticks))


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Writes numbers with the same places, as many as tell neighbours apart.

    Ticks that are all very small, or very large, have powers of ten.
    """
    steps = [abs(after - before) for before, after in pairwise(ticks) if after != before]
    largest = max((abs(tick) for tick in ticks), default=0.0)
    if not steps or not PLAIN[0] <= largest < PLAIN[1]:
        apart = magnitude(largest) - magnitude(min(steps)) + 1 if steps and largest else 0
        digits = min(MAX_DIGITS, max(MIN_DIGITS, apart))
        return [number(tick + 0.0, digits) for tick in ticks]
    return [fixed(tick, min(MAX_DIGITS, -magnitude(min(steps)))) for tick in ticks]


def _log_ticks(low: float, high: float, *, num_ticks: int) -> tuple[float, ...]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    low, high = low * (1 - SAME), high * (1 + SAME)
    tens = [ten for power in powers if low <= (ten := _times(1, power)) <= high]
    if len(tens) > 1:
        return tuple(tens[:: min(len(tens) - 1, math.ceil(len(tens) / max(2, num_ticks)))])
    steps = [_times(factor, power) for power in powers for factor in (1, 2, 5)]
    ticks = tuple(step for step in steps if low <= step <= high)
    if len(ticks) > 1:
        return ticks
    return linear_axis(low, high, num_ticks=num_ticks, fixed=(True, True)).ticks


def _apart(
    low: float, high: float, *, fixed: tuple[bool, bool], least: float
) -> tuple[float, float]:
    """Returns two ends with room between them, also where all values are equal."""
    size = max(abs(low), abs(high))
    if high - low > max(size * SAME, least * SAME, sys.float_info.min * 16):
        return low, high
    room = max(least or size / 10 or 1.0, size * WHOLE, sys.float_info.min * 32)
    if least or fixed[0]:
        return (low, low + room) if low < LARGEST - room else (LARGEST - room, LARGEST)
    return max(-LARGEST, low - room), high if fixed[1] else min(LARGEST, high + room)


def _tick_step(half: float, num_steps: int, *, is_whole: bool) -> tuple[int, int]:
    """Returns factor and power of ten of a step, so that `num_steps` of them reach over two
    halves.
    """
    wanted = min(half / num_steps * 2, LARGEST_STEP)
    power = math.floor(math.log10(wanted))
    if is_whole and power < 0:
        return 1, 0
    for factor in (1, 2, 5):
        if _times(factor, power) >= wanted * ENOUGH:
            return factor, power
    return 1, power + 1


def _times(factor: int, power: int, parts: int = 1) -> float:
    """Returns `factor * 10 ** power / parts` to the last digit, or the largest number instead of
    more.
    """
    try:
        ten: int = 10 ** abs(power)
        return factor * ten / parts if power >= 0 else factor / (parts * ten)
    except OverflowError:
        return math.copysign(LARGEST, factor)
