"""Owns the two clocks of the project, so that tests can replace them in one place."""

from __future__ import annotations

import time

now = time.time
"""Returns Unix seconds (float), for events."""

monotonic = time.monotonic
"""Returns seconds from an arbitrary start, for durations and deadlines."""
