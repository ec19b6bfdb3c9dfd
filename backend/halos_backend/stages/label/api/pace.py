"""Keeps calls within what a server allows: so many requests and so many tokens in a minute."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from halos_backend import clock

MINUTE_S = 60.0


@dataclass
class Begun:
    """Is one call that was let through; its tokens are an estimate until its answer is there."""

    t: float
    num_tokens: int


@dataclass
class Pace:
    """Lets calls through one after another, in the order in which they ask.

    In any `window_s` no more begin than `requests`, with no more tokens together than `tokens`; a
    single call of more tokens goes alone. None is no limit.
    """

    requests: int | None = None
    tokens: int | None = None
    window_s: float = MINUTE_S
    _begun: deque[Begun] = field(default_factory=deque)
    _held_until: float = 0.0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def hold(self, seconds: float) -> None:
        """Lets nothing through for so long: the server asks for it."""
        self._held_until = max(self._held_until, clock.monotonic() + seconds)

    async def admit(self, num_tokens: int) -> Begun:
        """Waits until the call may begin."""
        async with self._turn:
            while (delay := self._delay(num_tokens)) > 0:
                await asyncio.sleep(delay)
            begun = Begun(clock.monotonic(), num_tokens)
            self._begun.append(begun)
            return begun

    def _delay(self, num_tokens: int) -> float:
        """Returns the seconds after which to look again; 0 lets the call begin."""
        now = clock.monotonic()
        if now < self._held_until:
            return self._held_until - now
        while self._begun and self._begun[0].t <= now - self.window_s:
            self._begun.popleft()
        if not self._begun:
            return 0.0
        is_full = self.requests is not None and len(self._begun) >= self.requests
        used = sum(call.num_tokens for call in self._begun) if self.tokens is not None else 0
        if is_full or (self.tokens is not None and used + num_tokens > self.tokens):
            return max(self._begun[0].t + self.window_s - now, 1e-3)
        return 0.0
