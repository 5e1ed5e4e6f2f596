"""Shared counters in memory, and a Redis for their client, whose answers a test can hold back or refuse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from sendward import document
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


_PROCESS = "a" * 40
_INFO = f"role:master\r\nrun_id:{_PROCESS}\r\nmaster_replid:{_PROCESS}\r\nmaxmemory:0\r\n".encode()


class FakeRedis:
    """Answers INFO and scripts, and counts nothing. `begins`: set while a term may begin."""

    def __init__(self) -> None:
        self.begins, self.asked = asyncio.Event(), asyncio.Event()
        self.begins.set()
        self._connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server

    async def start(self) -> document.Redis:
        """Returns where it listens."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return document.Redis("127.0.0.1", self._server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        """It is gone, and so are all connections."""
        self._server.close()
        for connection in self._connections:
            connection.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        while line := await reader.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2])
            if words[0] == b"INFO":
                writer.write(b"$%d\r\n%b\r\n" % (len(_INFO), _INFO))
                continue
            if {b"begin", b"fill"} & set(words):
                self.asked.set()
                await self.begins.wait()
            writer.write(b"*3\r\n:0\r\n:0\r\n:0\r\n")
        self._connections.discard(writer)
        writer.close()
