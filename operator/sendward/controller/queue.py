"""Work that waits for the API server or Vault: a bounded number of workers, urgent work first."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from enum import IntEnum

import structlog

WORKERS = 24
_log = structlog.get_logger(__name__)


class Priority(IntEnum):
    """Lower goes first."""

    REVOKE = 0
    DOCUMENT = 1
    ISSUE = 2
    GATEWAY = 3
    STATUS = 4


class WorkQueue:
    """Jobs handle their own faults; whatever else they raise is a bug, logged with its type only."""

    def __init__(self) -> None:
        self._queue: asyncio.PriorityQueue[tuple[int, int, Callable[[], Awaitable[None]]]] = (
            asyncio.PriorityQueue()
        )
        self._order = itertools.count()

    def put(self, priority: Priority, job: Callable[[], Awaitable[None]]) -> None:
        """Queue a job."""
        self._queue.put_nowait((priority, next(self._order), job))

    @property
    def length(self) -> int:
        """Jobs that wait."""
        return self._queue.qsize()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            await self.work_one()

    async def work_one(self) -> None:
        """Wait for a job and do it."""
        _, _, job = await self._queue.get()
        try:
            await job()
        except Exception as error:  # noqa: BLE001 - one job's bug must not end the others
            _log.error("job failed", error=type(error).__name__, exc_info=error)
