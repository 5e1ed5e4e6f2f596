"""One guard's counters in a real Redis, with a clock that a test moves."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from sendward import document
from sendward.document import Limit
from sendward.guard.counters import SharedCounters
from sendward.guard.limiter import Admission, Limits

GATEWAY = "5c8d3c0a-0000-4000-8000-000000000001"
TERM = "place.1"
SLOW = [Limit(messages=1, period=86400, burst=100)]
PORT = 6390
HERE = document.Redis("127.0.0.1", PORT)
ENOUGH = 10.0  # seconds; a bound for what takes milliseconds


class MovedClock:
    """The machine's, ahead by what a test says."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


class Guard:
    """One guard's counters, and its clock."""

    def __init__(self, credentials: Path) -> None:
        self.clock = MovedClock()
        self.counters = SharedCounters(GATEWAY, credentials, self.clock)
        self.counters.use(HERE)

    async def connect(self) -> None:
        """As after the pause that follows a failure."""
        self.clock.ahead += 5
        await self.counters.check()

    async def reached(self) -> None:
        async def attempt() -> bool:
            await self.connect()
            return self.counters.reachable

        await until(attempt)

    async def take(
        self, cost: int, uid: str = "a", limits: Limits = SLOW, term: str = TERM
    ) -> Admission | None:
        return await self.counters.admit(term, [(uid, limits)], cost)

    async def left(self, uid: str = "a", term: str = TERM) -> int:
        """Messages left of SLOW, by taking them all."""
        taken, step = 0, 64
        while step:
            while True:
                answer = await self.take(step, uid, term=term)
                assert answer is not None
                if answer.refused is not None:
                    break
                taken += step
            step //= 2
        return taken


async def until(attempt: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(ENOUGH):
        while not await attempt():  # noqa: ASYNC110  another process
            await asyncio.sleep(0.02)
