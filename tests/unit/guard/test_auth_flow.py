"""One connection of Envoy when answers wait and when they are not taken: what is read, and what is judged."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from structlog.testing import capture_logs

from sendward.guard.server import MAX_HEAD_BYTES, AuthProtocol, Judge
from tests.unit.guard.test_server import Parts, request


class Wire(asyncio.Transport):
    """Nothing is taken from it until `take`; one answer is all that it holds without asking for a pause."""

    def __init__(self, protocol: AuthProtocol) -> None:
        super().__init__()
        self._protocol = protocol
        self.written: list[bytes] = []
        self.reading, self.closed = True, False
        self.full = False
        self.changed = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))
        self.changed.set()
        if len(self.written) >= 2 and not self.full:
            self.full = True
            self._protocol.pause_writing()

    def take(self) -> None:
        self.written.clear()
        if self.full:
            self.full = False
            self._protocol.resume_writing()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True
        self.changed.set()

    async def ended(self) -> None:
        async with asyncio.timeout(5):
            while not self.closed:
                self.changed.clear()
                await self.changed.wait()

    async def has(self, answers: int) -> None:
        async with asyncio.timeout(5):
            while len(self.written) < answers:
                self.changed.clear()
                await self.changed.wait()


class Connection:
    """To a guard that limits by shared counters."""

    def __init__(self) -> None:
        self.parts = parts = Parts()
        parts.state.term = f"{parts.counters.place}.1"
        judge = Judge(parts.state, parts.usage, parts.metrics, parts.counters)
        self.protocol = AuthProtocol(judge, set())
        self.wire = Wire(self.protocol)
        self.protocol.connection_made(cast("asyncio.BaseTransport", self.wire))

    async def asked(self, times: int) -> None:
        async with asyncio.timeout(5):
            await self.parts.counters.asked_times(times)

    def send(self, raw: bytes) -> None:
        self.protocol.data_received(raw)


@pytest.fixture
async def connection() -> Connection:
    return Connection()


async def test_nothing_is_read_while_answers_are_not_taken(connection: Connection) -> None:
    """Else whoever sends and never reads makes the guard keep all answers."""
    wire = connection.wire
    connection.send(request() + request())
    await wire.has(2)
    await asyncio.sleep(0)
    assert wire.full
    assert not wire.reading
    wire.take()
    assert wire.reading


async def test_nothing_is_read_while_answers_pile_up_though_others_were_taken(connection: Connection) -> None:
    wire, counters = connection.wire, connection.parts.counters
    connection.send(request(key="nonsense") * 2)
    assert wire.full
    counters.answers.clear()
    connection.send(request() * 2)
    await connection.asked(2)
    wire.take()
    assert not wire.reading
    counters.answers.set()
    await wire.has(2)
    wire.take()
    await asyncio.sleep(0)
    assert wire.reading


async def test_a_bug_in_an_awaited_answer_ends_the_connection_after_the_answers_before_it(
    connection: Connection,
) -> None:
    wire, parts = connection.wire, connection.parts
    parts.counters.answers.clear()
    connection.send(request(key="nonsense") + request() * 2)
    await connection.asked(2)
    parts.usage._demand = None  # type: ignore[assignment]
    with capture_logs() as logs:
        parts.counters.answers.set()
        await wire.ended()
        await asyncio.sleep(0)
    assert [answer.split()[1] for answer in wire.written] == [b"401"]
    assert {entry["event"] for entry in logs} == {"answer failed"}
    assert connection.protocol._last is None


async def test_an_upgrade_waits_for_the_answers_before_it(connection: Connection) -> None:
    wire, counters = connection.wire, connection.parts.counters
    counters.answers.clear()
    connection.send(request() + request("connection: upgrade", "upgrade: websocket"))
    await connection.asked(1)
    assert not wire.closed
    counters.answers.set()
    await wire.has(2)
    assert wire.closed
    assert wire.written[0].startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in wire.written[1]


@pytest.mark.parametrize(
    "beyond",
    [f"x: {'a' * MAX_HEAD_BYTES}", f"x: {'a' * MAX_HEAD_BYTES}\r\n" + "x: a\r\n" * 9 + "x: a"],
    ids=["one", "many"],
)
async def test_what_was_refused_is_not_judged_while_an_earlier_answer_waits(
    connection: Connection, beyond: str
) -> None:
    wire, counters = connection.wire, connection.parts.counters
    counters.answers.clear()
    connection.send(request() + request(beyond) + request())
    await connection.asked(1)
    await asyncio.sleep(0)
    assert counters.asked == 1
    counters.answers.set()
    await wire.has(2)
    assert [answer.split()[1] for answer in wire.written] == [b"200", b"400"]
    assert wire.closed
    text = connection.parts.metrics.text().decode()
    assert 'account="",decision="Deny",namespace="sms",protocol="http",reason="MalformedRequest"} 1.0' in text
