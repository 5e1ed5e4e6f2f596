"""Shared counters in memory, whose answers a test can hold back or refuse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from sendward.guard.limiter import Admission, Limiter, Limits
from sendward.protocol import PPM, Portions


class FakeCounters:
    """One term, full at first. `answers`: set while requests are answered; `reachable` False: with None."""

    def __init__(self) -> None:
        self.limiter = Limiter()
        self.limiter.set_shares(time.monotonic_ns(), PPM, {}, Portions(PPM))
        self.answers = asyncio.Event()
        self.answers.set()
        self.reachable = True
        self.asked = 0
        self.place = "here"
        self._news = asyncio.Event()

    async def asked_times(self, times: int) -> None:
        """Wait until so many requests were asked."""
        while self.asked < times:
            self._news.clear()
            await self._news.wait()

    async def admit(
        self,
        term: str,
        wanted: Sequence[tuple[str, Limits]],
        cost: int,
        *,
        audit: bool = False,
    ) -> Admission | None:
        """As `SharedCounters.admit`."""
        self.asked += 1
        self._news.set()
        admission = self.limiter.admit(time.monotonic_ns(), wanted, cost, audit=audit)
        await self.answers.wait()
        return admission if self.reachable else None
