"""The watchdog itself: it finds what blocks, names it, and lets pass what does not."""

from __future__ import annotations

import asyncio
import time

from tests.support.watchdog import Watchdog


def test_a_call_that_blocks_is_named() -> None:
    async def main() -> Watchdog:
        with Watchdog() as watchdog:
            await asyncio.sleep(0.05)
            _sleep_on_the_loop()
            await asyncio.sleep(0.05)
        return watchdog

    (block,) = asyncio.run(main()).blocks
    assert "_sleep_on_the_loop" in block.stack
    assert 0.3 < block.seconds < 3.0


def test_work_blocks_as_well_as_waiting_does() -> None:
    async def main() -> Watchdog:
        with Watchdog() as watchdog:
            await asyncio.sleep(0.05)
            _count_on_the_loop()
            await asyncio.sleep(0.05)
        return watchdog

    blocks = asyncio.run(main()).blocks
    assert any("_count_on_the_loop" in block.stack for block in blocks)


def test_a_loop_that_only_waits_is_not_blocked() -> None:
    async def main() -> Watchdog:
        with Watchdog() as watchdog:
            await asyncio.sleep(0.5)
        return watchdog

    assert asyncio.run(main()).blocks == []


def _sleep_on_the_loop() -> None:
    time.sleep(0.5)


def _count_on_the_loop() -> None:
    end = time.thread_time() + 0.5
    while time.thread_time() < end:
        pass
