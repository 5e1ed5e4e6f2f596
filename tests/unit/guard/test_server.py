"""The ext_authz server on a real Unix socket: keep-alive, pipelining, bounds, and broken input."""

from __future__ import annotations

import asyncio
import json
import stat
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sendward.document import Limit
from sendward.guard import decide
from sendward.guard.limiter import Limiter
from sendward.guard.metrics import Metrics
from sendward.guard.policy import Policy, gateway_view
from sendward.guard.server import MAX_BODY_BYTES, MAX_HEAD_BYTES, AuthServer, Judge
from sendward.guard.usage import Usage
from sendward.protocol import PPM, Portions
from tests.fakes.counters import FakeCounters
from tests.guard import builders

ONE = builders.credential("one")


class Client:
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, parts: Parts, path: Path
    ) -> None:
        self.reader, self.writer, self.parts, self.path = reader, writer, parts, path

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, body

    def send(self, raw: bytes) -> None:
        self.writer.write(raw)


class Parts:
    def __init__(self) -> None:
        policy = Policy()
        policy.set_gateway(gateway_view(builders.gateway()))
        account = builders.account("acme", builders.key("one"), limits=[Limit(1, 60, 3)])
        policy.set_shard(0, builders.shard(account))
        limiter = Limiter()
        limiter.set_shares(0, PPM, {}, Portions(PPM))
        self.state = decide.State(policy, limiter)
        self.usage = Usage()
        self.metrics = Metrics("sms")
        self.counters = FakeCounters()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        path = Path(directory, "guard.sock")
        await asyncio.to_thread(path.touch)  # left by a predecessor
        parts = Parts()
        server = AuthServer(Judge(parts.state, parts.usage, parts.metrics, parts.counters), path)
        assert not server.listening
        await server.start()
        assert server.listening
        assert stat.S_IMODE((await asyncio.to_thread(path.stat)).st_mode) == 0o600
        reader, writer = await asyncio.open_unix_connection(path)
        async with asyncio.timeout(10):
            yield Client(reader, writer, parts, path)
        writer.close()
        await server.stop()


def request(*headers: str, body: object = None, key: str = ONE.value) -> bytes:
    message = {"to": "+447700900123", "from": "ACME", "text": "hello"} if body is None else body
    content = json.dumps(message).encode()
    lines = [
        "POST /v1/messages HTTP/1.1",
        "host: guard",
        f"x-api-key: {key}",
        "x-sw-source: 10.0.0.1",
        "content-type: application/json",
        f"content-length: {len(content)}",
        *headers,
    ]
    return "\r\n".join((*lines, "", "")).encode() + content


async def test_allow_carries_identity(client: Client) -> None:
    client.send(request())
    assert await client.answer() == (
        200,
        {"x-sw-account": "acme", "x-sw-key": ONE.id, "x-sw-reason": "SW2000", "content-length": "0"},
        b"",
    )
    report = client.parts.usage.take()
    assert report.demand == {"account-acme": 1, "key-one": 1}
    assert client.parts.usage.take().last_used == {}
    client.parts.usage.put_back(report)
    assert client.parts.usage.take().last_used == report.last_used
    text = client.parts.metrics.text().decode()
    labels = 'account="acme",decision="Allow",namespace="sms",protocol="http",reason="Allowed"'
    assert f"sendward_messages_total{{{labels}}} 1.0" in text


async def test_pipelined_requests_are_answered_in_order(client: Client) -> None:
    raw = request() + request(key="nonsense") + request() + request() + request()
    for byte in raw[:40]:
        client.send(bytes([byte]))
    client.send(raw[40:])
    answers = [await client.answer() for _ in range(5)]
    assert [status for status, _, _ in answers] == [200, 401, 200, 200, 429]
    assert answers[1][1]["www-authenticate"] == "Bearer"
    assert 50 <= int(answers[4][1]["retry-after"]) <= 60


async def test_problem_names_code_and_request(client: Client) -> None:
    uuid = "0F0E0D0C-0000-4000-8000-000000000001"
    client.send(request(f"x-request-id: {uuid}", key="nonsense"))
    _, headers, body = await client.answer()
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-sw-reason"] == "SW2203"
    assert json.loads(body) == {
        "type": "urn:sendward:problem:SW2203",
        "title": "Not an API key",
        "status": 401,
        "code": "SW2203",
        "detail": "The value is no API key, or it was mistyped.",
        "instance": f"urn:uuid:{uuid.lower()}",
    }


async def test_no_body_follows_the_answer_to_head(client: Client) -> None:
    client.send(request().replace(b"POST", b"HEAD", 1) + request())
    head = (await client.reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 405 ")
    assert (await client.answer())[0] == 200


@pytest.mark.parametrize("source", ["x-sw-source: 10.0.0.2", "x-sw-source;: 1"])
async def test_a_second_source_is_no_source(client: Client, source: str) -> None:
    client.send(request(source))
    assert (await client.answer())[0] in {400, 403}


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x00\xa5",
        b"GET /v1/messages HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"GET /" + b"a" * (MAX_HEAD_BYTES + 1) + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"a" * (MAX_HEAD_BYTES + 1) + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 9999999\r\n\r\n" + b"a" * (MAX_BODY_BYTES + 1),
    ],
)
async def test_what_is_no_bounded_request_ends_the_connection(client: Client, raw: bytes) -> None:
    client.send(raw)
    status, headers, _ = await client.answer()
    assert (status, headers["connection"]) == (400, "close")
    assert await client.reader.read() == b""


async def test_connection_close_is_honoured(client: Client) -> None:
    client.send(request("connection: close") + request())
    status, headers, _ = await client.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert await client.reader.read() == b""


async def test_an_upgrade_is_judged_and_goes_no_further(client: Client) -> None:
    client.send(request("connection: upgrade", "upgrade: websocket"))
    answer = await client.reader.read()
    assert answer.count(b"HTTP/1.1 ") <= 1


async def test_a_bug_refuses_and_serves_on(client: Client) -> None:
    policy = client.parts.state.policy
    client.parts.state.policy = None  # type: ignore[assignment]
    client.send(request())
    status, headers, body = await client.answer()
    assert (status, headers["retry-after"]) == (490, "1")  # Envoy makes 503 of it
    assert json.loads(body)["code"] == "SW2004"
    client.parts.state.policy = policy
    client.send(request())
    assert (await client.answer())[0] == 200
