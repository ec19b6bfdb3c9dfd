"""Keeps series that never grow beyond a size: neighbours are joined when there is no more room."""

from __future__ import annotations

import math
from array import array

from halos_tui.tracking.eta import ProgressMark

CAPACITY = 1024
MOST_MARKS = 32


class BoundedSeries:
    """Holds a metric over steps; when full, every two points become one: mean and extremes.

    `capacity` is even. What is not finite counts for nothing, unless there is nothing else.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._xs, self._ys = array("d"), array("d")
        self._lows, self._highs = array("d"), array("d")
        self._stride = 1
        self._open = _Bucket()

    def add(self, x: float, y: float) -> None:
        """Adds a point. `x` ascends; one that goes back begins the series anew from there."""
        if x <= self._open.x or (not self._open.count and self._xs and x <= self._xs[-1]):
            self._forget_from(x)
        self._open.add(x, y)
        if self._open.count == self._stride:
            self._push(self._open)
            self._open = _Bucket()
            if len(self._xs) >= self._capacity:
                self._halve()

    def columns(self) -> tuple[array[float], array[float], array[float], array[float]]:
        """Returns copies of x, mean, least and greatest; the last point may stand for fewer
        steps.
        """
        columns = (self._xs[:], self._ys[:], self._lows[:], self._highs[:])
        if self._open.count:
            for column, value in zip(columns, self._open.point, strict=True):
                column.append(value)
        return columns

    @property
    def is_joined(self) -> bool:
        """Says whether a point stands for more than one step."""
        return self._stride > 1

    def _push(self, bucket: _Bucket) -> None:
        for column, value in zip(self._columns, bucket.point, strict=True):
            column.append(value)

    @property
    def _columns(self) -> tuple[array[float], ...]:
        return self._xs, self._ys, self._lows, self._highs

    def _halve(self) -> None:
        ys, lows, highs = self._ys, self._lows, self._highs
        pairs = range(0, len(ys) - 1, 2)
        self._xs = self._xs[1::2]
        self._ys = array("d", [_mean(ys[i], ys[i + 1]) for i in pairs])
        self._lows = array("d", [_least(lows[i], lows[i + 1]) for i in pairs])
        self._highs = array("d", [-_least(-highs[i], -highs[i + 1]) for i in pairs])
        self._stride *= 2

    def _forget_from(self, x: float) -> None:
        self._open = _Bucket()
        while self._xs and self._xs[-1] >= x:
            for column in self._columns:
                column.pop()


class _Bucket:
    """Collects steps that become one point."""

    __slots__ = ("_high", "_low", "_num_finite", "_sum", "count", "x")

    def __init__(self) -> None:
        self.x = -math.inf
        self.count = 0
        self._num_finite = 0
        self._sum = 0.0
        self._low, self._high = math.inf, -math.inf

    def add(self, x: float, y: float) -> None:
        self.x = x
        self.count += 1
        if math.isfinite(y):
            self._num_finite += 1
            self._sum += y
            self._low, self._high = min(self._low, y), max(self._high, y)

    @property
    def point(self) -> tuple[float, float, float, float]:
        if not self._num_finite:
            return self.x, math.nan, math.nan, math.nan
        return self.x, self._sum / self._num_finite, self._low, self._high


class ProgressMarks:
    """Keeps when how much was done, at about even distances in time; the last one is the newest."""

    def __init__(self, most: int = MOST_MARKS) -> None:
        self._most = most
        self._kept: list[ProgressMark] = []
        self.newest: ProgressMark | None = None
        self._interval_s = 0.0

    def clear(self) -> None:
        self._kept, self.newest, self._interval_s = [], None, 0.0

    def add(self, t: float, done: int) -> None:
        self.newest = (t, done)
        if self._kept and t < self._kept[-1][0] + self._interval_s:
            return
        self._kept.append((t, done))
        if len(self._kept) > self._most:
            span = self._kept[-1][0] - self._kept[0][0]
            self._kept = self._kept[::2]
            self._interval_s = span / self._most * 2

    def marks(self) -> tuple[ProgressMark, ...]:
        if self.newest is None or self.newest == self._kept[-1]:
            return tuple(self._kept)
        return (*self._kept[:-1], self.newest)


def _mean(one: float, other: float) -> float:
    if math.isnan(one):
        return other
    return one if math.isnan(other) else (one + other) / 2


def _least(one: float, other: float) -> float:
    if math.isnan(one):
        return other
    return one if math.isnan(other) else min(one, other)
