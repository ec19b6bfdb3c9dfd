"""The two clocks of the project, so that tests can name them."""

from __future__ import annotations

import time

now = time.time
"""Unix seconds (float), for events."""

monotonic = time.monotonic
"""Seconds from an arbitrary start, for durations and deadlines."""
