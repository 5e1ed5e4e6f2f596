"""Work that waits for the API server or Vault: a bounded number of workers, urgent work first.

Some workers do urgent work only: a Vault that does not answer may hold all others for as long as it takes
to give it up, and a revocation does not wait for it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from enum import IntEnum

import structlog

WORKERS = 24
RESERVED = 8  # of them, for urgent work
_Entry = tuple[int, int, Callable[[], Awaitable[None]]]
_log = structlog.get_logger(__name__)


class Priority(IntEnum):
    """Lower goes first."""

    REVOKE = 0
    DOCUMENT = 1
    ISSUE = 2
    GATEWAY = 3
    STATUS = 4


_URGENT = (Priority.REVOKE, Priority.DOCUMENT)


class WorkQueue:
    """Jobs handle their own faults; whatever else they raise is a bug, logged with its type only."""

    def __init__(self) -> None:
        self._queue: asyncio.PriorityQueue[_Entry] = asyncio.PriorityQueue()
        self._urgent: asyncio.PriorityQueue[_Entry] = asyncio.PriorityQueue()
        self._order = itertools.count()
        self._waiting = 0

    def put(self, priority: Priority, job: Callable[[], Awaitable[None]]) -> None:
        """Queue a job."""
        order = next(self._order)
        self._waiting += 1
        if priority in _URGENT:
            self._urgent.put_nowait((priority, order, job))
            job = self._next_urgent  # whoever comes first, a reserved worker or another one
        self._queue.put_nowait((priority, order, job))

    @property
    def length(self) -> int:
        """Jobs that wait."""
        return self._waiting

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                group.create_task(self._work(self._urgent if number < RESERVED else self._queue))

    async def _work(self, queue: asyncio.PriorityQueue[_Entry]) -> None:
        while True:
            await self._do(await queue.get())

    async def work_one(self) -> None:
        """Wait for a job and do it."""
        await self._do(await self._queue.get())

    async def _next_urgent(self) -> None:
        if not self._urgent.empty():
            await self._do(self._urgent.get_nowait())

    async def _do(self, entry: _Entry) -> None:
        job = entry[2]
        if job != self._next_urgent:
            self._waiting -= 1
        try:
            await job()
        except Exception as error:  # noqa: BLE001 - one job's bug must not end the others
            _log.error("job failed", error=type(error).__name__, exc_info=error)
