"""Hostile clients at a real Envoy with compiled configuration: HTTP/2, sizes, TLS, claimed sources."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from sendward.verdict import ProxyReason
from tests.envoy import http2
from tests.envoy.stand import Stand, gateway_spec, read_reply, running
from tests.lab.pki import CertificateAuthority

pytestmark = pytest.mark.asyncio(loop_scope="module")

POST = b"POST /v1/messages HTTP/1.1\r\nHost: a\r\n"
PATIENCE = 60.0  # seconds until a test fails; Envoy's own limits are 10 and 30


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Stand]:
    async with running(gateway_spec()) as stand:
        yield stand


@pytest_asyncio.fixture(loop_scope="module")
async def stand(shared: Stand) -> AsyncIterator[Stand]:
    """After each test the same Envoy serves on."""
    shared.reset()
    yield shared
    assert (await shared.send()).status == 200


def _without(name: str) -> http2.Fields:
    return tuple(field for field in http2.pseudo("GET", "/v1/balance") if field[0] != name)


SOUND = http2.pseudo("GET", "/v1/balance")
ODD: dict[str, http2.Fields] = {
    "no path": _without(":path"),
    "no method": _without(":method"),
    "no scheme": _without(":scheme"),
    "two paths": (*SOUND, (":path", "/v1/messages/1")),
    "two methods": (*SOUND, (":method", "POST")),
    "two authorities": (*SOUND, (":authority", "other")),
    "an unknown pseudo-header": (*SOUND, (":protocol-x", "websocket")),
    "a response's pseudo-header": (*SOUND, (":status", "200")),
    "a pseudo-header behind a header": (("x-a", "1"), *SOUND),
    "an empty path": (*_without(":path"), (":path", "")),
    "a path without a slash": (*_without(":path"), (":path", "v1/balance")),
    "an asterisk": (*_without(":path"), (":path", "*")),
    "a blank in the path": (*_without(":path"), (":path", "/v1/balance HTTP/1.1")),
    "a line break in the path": (*_without(":path"), (":path", "/v1/balance\r\nx-sw-account: a")),
    "NUL in the path": (*_without(":path"), (":path", "/v1/balance\x00")),
    "dots": (*_without(":path"), (":path", "/v1/balance/%2e%2e/%2e%2e/metrics")),
    "an escaped slash": (*_without(":path"), (":path", "/v1%2fbalance")),
    "a backslash out of the API": (*_without(":path"), (":path", "/v1/..\\metrics")),
    "a path parameter": (*_without(":path"), (":path", "/v1/balance;x")),
    "an upper-case name": (*SOUND, ("X-Upper", "1")),
    "an empty name": (*SOUND, ("", "1")),
    "a blank in a name": (*SOUND, ("x a", "1")),
    "a colon in a name": (*SOUND, ("x:a", "1")),
    "a line break in a value": (*SOUND, ("x-a", "1\r\nx-sw-account: evil")),
    "NUL in a value": (*SOUND, ("x-a", "1\x00")),
    "an underscore": (*SOUND, ("x_api_key", "1")),
    "connection": (*SOUND, ("connection", "close")),
    "transfer-encoding": (*SOUND, ("transfer-encoding", "chunked")),
    "keep-alive": (*SOUND, ("keep-alive", "1")),
    "upgrade": (*SOUND, ("upgrade", "websocket")),
    "a length without a body": (*SOUND, ("content-length", "5")),
    "two lengths": (*SOUND, ("content-length", "0"), ("content-length", "5")),
    "a negative length": (*SOUND, ("content-length", "-1")),
    "CONNECT": ((":method", "CONNECT"), (":authority", "127.0.0.1:8080")),
    "extended CONNECT": ((":method", "CONNECT"), (":protocol", "websocket"), *_without(":method")),
}  # fmt: skip


async def _h2(stand: Stand, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await stand.connect(context=stand.tls(alpn="h2"))
    writer.write(data)
    return reader, writer


async def test_odd_http2_never_reaches_the_application(stand: Stand) -> None:
    """All at once: Envoy takes a second to close each of their connections."""

    async def send(case: str) -> None:
        reader, writer = await _h2(stand, http2.fields((*ODD[case], ("x-case", case))))
        await http2.answered(reader)
        writer.transport.abort()

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(send(case) for case in ODD))
    assert [seen.values("x-case") for seen in stand.application.seen] == []


async def test_a_host_beside_the_authority_is_not_another_one(stand: Stand) -> None:
    reader, writer = await _h2(stand, http2.fields((*SOUND, ("host", "evil.example"))))
    async with asyncio.timeout(PATIENCE):
        await http2.answered(reader)
    writer.transport.abort()
    assert "evil.example" not in str(stand.application.seen)
    assert "evil.example" not in str(stand.guard.seen)


async def test_a_body_other_than_its_length_over_http2_is_refused(stand: Stand) -> None:
    wanted = (*http2.pseudo("POST", "/v1/messages"), ("content-length", "5"))
    for body in (b"{}", b"{}{}{}{}"):
        reader, writer = await _h2(stand, http2.fields(wanted, body))
        async with asyncio.timeout(PATIENCE):
            await http2.answered(reader)
        writer.transport.abort()
    assert stand.application.seen == []


async def test_streams_of_one_connection_are_limited(stand: Stand) -> None:
    reader, writer = await _h2(stand, http2.unfinished(150, reset=False))
    async with asyncio.timeout(PATIENCE):
        assert await http2.refused_streams(reader, 50) >= 50
    writer.transport.abort()


FLOODS = {
    "headers without an end": http2.endless_headers(1000),
    "a compressed header bomb": http2.header_bomb(15_000),
    "pings": http2.pings(100_000),
    "requests cancelled at once": http2.unfinished(20_000, reset=True),
}


@pytest.mark.parametrize("case", FLOODS)
async def test_a_flood_over_http2_costs_its_connection(stand: Stand, case: str) -> None:
    reader, writer = await _h2(stand, FLOODS[case])
    async with asyncio.timeout(PATIENCE):
        assert await http2.ends(reader) or not await http2.answered(reader)
    writer.transport.abort()
    assert stand.application.seen == []


async def _poured(stand: Stand, head: bytes, piece: bytes, pieces: int) -> tuple[int, int]:
    """(status, bytes that were taken) of a body that goes on until the connection is closed."""
    reader, writer = await stand.connect()
    reply = asyncio.ensure_future(read_reply(reader))
    writer.write(head)
    taken = 0
    try:
        for _ in range(pieces):
            writer.write(piece)
            await writer.drain()
            taken += len(piece)
            if reply.done():
                break
    except ConnectionError:
        pass
    async with asyncio.timeout(PATIENCE):
        [found] = await asyncio.gather(reply, return_exceptions=True)
    writer.transport.abort()
    return (0 if isinstance(found, BaseException) else found.status), taken


GIGABYTE = 2**30


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (POST + b"Content-Length: %d\r\n\r\n" % GIGABYTE, b"x" * 65536),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"e" * 1000 + b"\r\nx\r\n"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n3fffffff\r\n", b"x" * 65536),
    ],
    ids=["claimed", "chunks", "chunk extensions", "one chunk"],
)
async def test_a_gigabyte_is_cut_off_long_before_its_end(stand: Stand, head: bytes, piece: bytes) -> None:
    status, taken = await _poured(stand, head, piece, GIGABYTE // len(piece))
    assert status in (0, 400, 413)
    assert taken < 64 * 2**20
    assert stand.guard.seen == stand.application.seen == []


@pytest.mark.parametrize("size", [17_000, 70_000, 1_000_000])
async def test_large_headers_are_refused(stand: Stand, size: int) -> None:
    for headers in (
        ("x-big: " + "a" * size,),
        (f"x-{'a' * size}: 1",),
        ("Cookie: " + "a=b; " * (size // 5),),
    ):
        reply = await stand.send(headers=headers)
        assert reply.status in (0, 400, 431)
    assert (await stand.send(path="/v1/messages?" + "a" * size)).status in (0, 400, 414, 431)
    assert stand.guard.seen == []


async def test_a_compressed_body_is_not_unpacked(stand: Stand) -> None:
    """The guard refuses it for messages; here it must arrive there as it was sent."""
    bomb = b"\x1f\x8b\x08" + bytes(1000)
    assert (await stand.send(headers=("Content-Encoding: gzip",), body=bomb)).status == 200
    assert stand.guard.seen[0].body == bomb
    assert stand.guard.seen[0].values("content-encoding") == ["gzip"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2])
async def test_old_tls_is_refused(stand: Stand, version: ssl.TLSVersion) -> None:
    old = stand.tls()
    old.set_ciphers("ALL:@SECLEVEL=0")
    with (
        pytest.warns(DeprecationWarning, match="deprecated")
        if version < ssl.TLSVersion.TLSv1_2
        else contextlib.nullcontext()
    ):
        old.minimum_version = old.maximum_version = version
    assert (await stand.send(context=old)).status == 0
    assert stand.guard.seen == []


async def test_a_client_that_trusts_another_ca_gets_nothing(stand: Stand, tmp_path: Path) -> None:
    other = ssl.create_default_context(cafile=str(CertificateAuthority(tmp_path, "Other CA").file))
    assert (await stand.send(context=other)).status == 0
    assert stand.guard.seen == []


@pytest.mark.parametrize(
    "data",
    [
        POST + b"Content-Length: 2\r\n\r\n{}",
        http2.request("GET", "/v1/balance"),
        b"\x16\x03\x01\xff\xff" + bytes(100),
    ],
    ids=["HTTP/1.1", "HTTP/2", "a broken handshake"],
)
async def test_the_tls_port_answers_tls_only(stand: Stand, data: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stand.spec.http.port)
    writer.write(data)
    async with asyncio.timeout(PATIENCE):
        said = await _all(reader)
    writer.transport.abort()
    assert b"HTTP/" not in said
    assert stand.guard.seen == []


async def _all(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(-1)
    except ConnectionError:
        return b""


FORWARDED: dict[str, tuple[tuple[str, ...], str]] = {
    "as the load balancer says": (("X-Forwarded-For: 9.9.9.9, 203.0.113.7",), "203.0.113.7"),
    "in two headers": (("X-Forwarded-For: 9.9.9.9", "X-Forwarded-For: 203.0.113.7"), "203.0.113.7"),
    "named by Connection": (
        ("X-Forwarded-For: 9.9.9.9, 203.0.113.7", "Connection: x-forwarded-for, x-sw-source"),
        "203.0.113.7",
    ),
    "no address": (("X-Forwarded-For: 203.0.113.7, evil",), "127.0.0.1"),
    "none at all": ((), "127.0.0.1"),
    "with a port": (("X-Forwarded-For: 203.0.113.7:80",), "127.0.0.1"),
}


async def test_the_source_is_what_the_trusted_hop_says_or_the_hop_itself() -> None:
    spec = gateway_spec(trustedHops=1, frontCIDRs=["127.0.0.1/32"], sourceCIDRs=["203.0.113.0/24"])
    async with running(spec) as stand:
        for case, (headers, source) in FORWARDED.items():
            stand.reset()
            await stand.send(headers=(*headers, "x-sw-source: 203.0.113.9", "X-Real-IP: 203.0.113.9"))
            judged = [value for seen in stand.guard.seen for value in seen.values("x-sw-source")]
            assert judged in ([source], []), case
            assert stand.guard.seen or not stand.application.seen


async def test_a_slow_client_is_cut_off_while_others_are_served(stand: Stand) -> None:
    """10 s are given for the handshake, and for the headers; the body's 30 s are tried end to end."""

    async def slow(data: bytes) -> int:
        reader, writer = await stand.connect()
        writer.write(data)
        try:
            async with asyncio.timeout(PATIENCE):
                return (await read_reply(reader)).status
        except (ConnectionError, asyncio.IncompleteReadError):
            return 0
        finally:
            writer.transport.abort()

    async def silent() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", stand.spec.http.port)
        async with asyncio.timeout(PATIENCE):
            found = await _all(reader)
        writer.transport.abort()
        return found

    waiting = [asyncio.ensure_future(slow(POST)) for _ in range(50)]
    handshake = asyncio.ensure_future(silent())
    for _ in range(20):
        assert (await stand.send()).status == 200
    assert set(await asyncio.gather(*waiting)) <= {0, ProxyReason.RequestTimeout.status}
    assert await handshake == b""
    assert len(stand.application.seen) == 20
