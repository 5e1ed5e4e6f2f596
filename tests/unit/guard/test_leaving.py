"""What the hub says while a guard leaves it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sendward import document
from sendward.guard.main import Guard
from sendward.guard.settings import Settings
from sendward.protocol import Shares

PROCESS = "a" * 40
INFO = f"role:master\r\nrun_id:{PROCESS}\r\nmaster_replid:{PROCESS}\r\nmaxmemory:0\r\n".encode()


class SlowRedis:
    """Answers INFO and scripts; a term begins only when it is let."""

    def __init__(self) -> None:
        self.asked, self.let = asyncio.Event(), asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2])
            if words[0] == b"INFO":
                writer.write(b"$%d\r\n%b\r\n" % (len(INFO), INFO))
                continue
            if b"begin" in words:
                self.asked.set()
                await self.let.wait()
            writer.write(b"*3\r\n:0\r\n:0\r\n:0\r\n")
        writer.close()


class Stream:
    """Takes what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    async def send_str(self, text: str) -> None:
        self.said.append(text)

    async def close(self) -> None:
        return


async def test_a_guard_that_has_left_takes_no_term(tmp_path: Path) -> None:
    """The hub counts on it: what a guard has after its goodbye, nobody takes from it."""
    key = Ed25519PrivateKey.generate().public_key()
    guard = Guard(Settings("sms", "uid", "tenant", "pod", "hub", 1, key, {}, str(tmp_path), 0, 0))
    redis, said = SlowRedis(), Stream()
    stream = cast("aiohttp.ClientWebSocketResponse", said)
    server = await asyncio.start_server(redis.serve, "127.0.0.1", 0)
    guard.counters.use(document.Redis("127.0.0.1", server.sockets[0].getsockname()[1]))
    await guard.counters.check()
    assert guard.counters.reachable
    async with asyncio.timeout(5):
        term = Shares(1, 0, counters=f"{guard.counters.place}.1")
        told = asyncio.create_task(guard.hub._handle(stream, term))
        await redis.asked.wait()
        guard.hub._open = stream
        await guard.hub.leave()
        redis.let.set()
        await told
    assert len(said.said) == 1  # its goodbye
    assert guard.state.term == ""
    assert guard.enforcer.shares is None
    await guard.counters.close()
    server.close()
    guard.enforcer.close()
