"""Hostile HTTP through the real Envoy and guard: nothing gets past, nothing ends the guard."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
import pytest_asyncio

from sendward import names
from tests.e2e.smuggling import SMUGGLING
from tests.e2e.support import (
    ACCEPTED,
    MESSAGE,
    PORT,
    RECIPIENT,
    Tenant,
    answer,
    metric,
    request,
)
from tests.envoy import http2
from tests.lab.stack import Object, eventually

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]

SLOW_SECONDS = 60.0  # Envoy's own limits are 10 s for the headers and 30 s for the whole request


@dataclass(frozen=True)
class Target:
    """The pod under attack and a key that is good."""

    tenant: Tenant
    pod: Object
    key: str
    other: str


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def prepared(tenant: Tenant) -> Target:
    """A gateway whose limits are out of the way."""
    many = [{"messages": 5000, "per": "10s"}]
    await tenant.patch("mrl", "standard", {"spec": {"account": many, "key": many}})
    await tenant.ready("sender", "acme")
    pod = await tenant.pod()
    target = Target(tenant, pod, await tenant.key("acme-shop"), await tenant.key("globex-main"))

    async def unlimited() -> bool:
        return all([(await tenant.send(pod, target.key)).status == ACCEPTED for _ in range(50)])

    await eventually(unlimited, "the limits are raised")
    return target


@pytest_asyncio.fixture(loop_scope="session")
async def target(prepared: Target) -> AsyncIterator[Target]:
    """After each test: the application saw nothing, the same guard serves on."""
    tenant, pod = prepared.tenant, prepared.pod
    guard = tenant.guard_pid(pod)
    before = await tenant.seen(pod)
    yield prepared
    assert await tenant.seen(pod) == before
    assert tenant.guard_pid(pod) == guard
    assert (await tenant.send(pod, prepared.key)).status == ACCEPTED


Make = Callable[[str, str], bytes]

KEYS: dict[str, Make] = {
    "no key": lambda key, other: request(),
    "two x-api-key headers": lambda key, other: request(headers=(("x-api-key", key), ("x-api-key", key))),
    "two different keys": lambda key, other: request(headers=(("x-api-key", key), ("x-api-key", other))),
    "comma-joined": lambda key, other: request(headers=(("x-api-key", f"{key},{other}"),)),
    "comma-joined with a space": lambda key, other: request(headers=(("x-api-key", f"{key}, {key}"),)),
    "bearer and x-api-key": lambda key, other: request(key=key, headers=(("x-api-key", key),)),
    "bearer of one, x-api-key of the other": lambda key, other: request(
        key=key, headers=(("x-api-key", other),)
    ),
    "two bearers": lambda key, other: request(key=key, headers=(("authorization", f"Bearer {key}"),)),
    "basic": lambda key, other: request(headers=(("authorization", f"Basic {key}"),)),
    "key in the query": lambda key, other: request(path=f"/v1/messages?api_key={key}"),
    "key with one character changed": lambda key, other: request(
        key=f"{key[:20]}{_other(key[20])}{key[21:]}"
    ),
    "prefix of a key": lambda key, other: request(key=key[:-1]),
    "key with a tail": lambda key, other: request(key=f"{key}0"),
    "key id of one, secret of the other": lambda key, other: request(key=key[:14] + other[14:]),
    "empty key": lambda key, other: request(headers=(("x-api-key", ""),)),
    "very long key": lambda key, other: request(headers=(("x-api-key", "swk_" + "A" * 8000),)),
    "key beyond ASCII": lambda key, other: request(headers=(("x-api-key", "swk_\xe9\xff"),)),
    "spoofed identity instead of a key": lambda key, other: request(
        headers=(("x-sw-account", "acme"), ("x-sw-key", key[4:14]), ("x-sw-source", "10.123.200.1"))
    ),
}


def _other(character: str) -> str:
    return "a" if character != "a" else "b"


@pytest.mark.parametrize("case", KEYS)
async def test_keys(target: Target, case: str) -> None:
    found = await target.tenant.raw(target.pod, KEYS[case](target.key, target.other))
    assert found.status == 401, found
    assert found.headers["content-type"] == "application/problem+json"
    assert found.code.startswith("SW22")
    assert target.key not in found.body.decode()


SYNTAX: dict[str, tuple[set[int], Make]] = {
    "underscore header": ({400}, lambda key, other: request(headers=(("x_api_key", key),))),
    "underscore identity": ({400}, lambda key, other: request(key=key, headers=(("x_sw_account", "acme"),))),
    "escaped slash": ({400}, lambda key, other: request(key=key, path="/v1%2fmessages")),
    "escaped slash, upper case": ({400}, lambda key, other: request(key=key, path="/v1%2Fmessages")),
    "escaped backslash": ({400}, lambda key, other: request(key=key, path="/v1%5cmessages")),
    "path parameter": ({400, 404}, lambda key, other: request(key=key, path="/v1/messages;x")),
    "path parameter below": (
        {400, 404},
        lambda key, other: request(key=key, method="GET", path="/v1/messages/1;/x"),
    ),
    "out of the API": (
        {403, 404},
        lambda key, other: request(key=key, method="GET", path="/v1/messages/../../debug/last"),
    ),
    "escaped dots": (
        {400, 403, 404},
        lambda key, other: request(key=key, method="GET", path="/v1/messages/%2e%2e/%2e%2e/debug/last"),
    ),
    "twice escaped": (
        {400, 403, 404},
        lambda key, other: request(
            key=key, method="GET", path="/v1/messages/%252e%252e/%252e%252e/debug/last"
        ),
    ),
    "absolute form": (
        {400, 403, 404},
        lambda key, other: request(key=key, method="GET", path="http://127.0.0.1:8080/debug/last"),
    ),
    "undeclared path": ({403, 404}, lambda key, other: request(key=key, method="GET", path="/debug/last")),
    "undeclared path, slashes": (
        {403, 404},
        lambda key, other: request(key=key, method="GET", path="//debug//last"),
    ),
    "undeclared method": ({403, 404, 405}, lambda key, other: request(key=key, method="DELETE")),
    "method override": (
        {403, 404, 405},
        lambda key, other: request(key=key, method="PUT", headers=(("x-http-method-override", "POST"),)),
    ),
    "NUL in the path": ({400}, lambda key, other: request(key=key, path="/v1/messages\x00")),
    "escaped NUL": ({400, 404}, lambda key, other: request(key=key, path="/v1/messages%00")),
    "NUL in a header": ({400}, lambda key, other: request(key=key, headers=(("x-note", "a\x00b"),))),
    "fragment": ({400, 404}, lambda key, other: request(key=key, path="/v1/messages#x")),
    "large body": ({413}, lambda key, other: request(key=key, body=b"x" * 70_000)),
    "large header": ({431}, lambda key, other: request(key=key, headers=(("x-note", "a" * 20_000),))),
    "many headers": (
        {431, 400},
        lambda key, other: request(key=key, headers=tuple((f"x-{n}", "a") for n in range(100))),
    ),
    "invalid JSON": ({400}, lambda key, other: request(key=key, body=b'{"to": "1", "from"')),
    "empty body": ({400}, lambda key, other: request(key=key, body=b"")),
    "not an object": ({400}, lambda key, other: request(key=key, body=b'["to"]')),
    "duplicate members": (
        {400},
        lambda key, other: request(
            key=key, body=b'{"to": "+15550001111", "to": "+15550002222", "from": "ACME", "text": "x"}'
        ),
    ),
    "duplicate sender": (
        {400},
        lambda key, other: request(
            key=key, body=b'{"to": "+15550001111", "from": "ACME", "from": "BANK", "text": "x"}'
        ),
    ),
    "escaped duplicate sender": (
        {400},
        lambda key, other: request(
            key=key, body=b'{"to": "+15550001111", "from": "ACME", "fro\\u006d": "BANK", "text": "x"}'
        ),
    ),
    "deep nesting": ({400}, lambda key, other: request(key=key, body=b"[" * 30_000)),
    "sender as a list": (
        {400},
        lambda key, other: request(key=key, body=json.dumps({**MESSAGE, "from": ["ACME"]}).encode()),
    ),
    "NaN": ({400}, lambda key, other: request(key=key, body=b'{"to": NaN, "from": "ACME", "text": "x"}')),
    "UTF-16": ({400}, lambda key, other: request(key=key, body=json.dumps(MESSAGE).encode("utf-16"))),
    "not UTF-8": (
        {400},
        lambda key, other: request(key=key, body=b'{"to": "\xff", "from": "ACME", "text": "x"}'),
    ),
    "form as JSON": (
        {400},
        lambda key, other: request(
            key=key,
            content_type="application/x-www-form-urlencoded",
            body=b"to=%2B15550001111&from=ACME&text=x",
        ),
    ),
    "wrong content type": ({400, 415}, lambda key, other: request(key=key, content_type="text/plain")),
    "no content type": ({400, 415}, lambda key, other: request(key=key, content_type="")),
    "compressed": ({400, 415}, lambda key, other: request(key=key, headers=(("content-encoding", "gzip"),))),
    "foreign sender id": (
        {403},
        lambda key, other: request(key=key, body=json.dumps({**MESSAGE, "from": "BANK"}).encode()),
    ),
    "doubled form field": (
        {400},
        lambda key, other: request(
            key=key,
            path="/send",
            content_type="application/x-www-form-urlencoded",
            body=b"to=%2B15550001111&from=ACME&from=BANK&content=x",
        ),
    ),
    "doubled query parameter": (
        {400},
        lambda key, other: request(
            key=key,
            method="GET",
            content_type="",
            body=b"",
            path="/cgi-bin/sendsms?username=u&password=p&to=%2B15550001111&from=ACME&from=BANK&text=x",
        ),
    ),
}


@pytest.mark.parametrize("case", SYNTAX)
async def test_requests(target: Target, case: str) -> None:
    statuses, make = SYNTAX[case]
    found = await target.tenant.raw(target.pod, make(target.key, target.other))
    assert found.status in statuses, found
    assert RECIPIENT not in found.body.decode()


@pytest.mark.parametrize("case", SMUGGLING)
async def test_smuggling(target: Target, case: str) -> None:
    """Refused, and no answer follows that would be the one to a hidden request."""
    tenant = target.tenant
    reader, writer = await tenant.connect(target.pod)
    writer.write(SMUGGLING[case](target.key))
    found = await answer(reader)
    assert found.status == 0 or found.status >= 400, found
    if found.status:
        following = await answer(reader)
        assert following.status == 0 or following.status >= 400, following
    writer.close()


@pytest.mark.parametrize(
    "path", ["/v1/messages", "//v1//messages", "/v1/./messages", "/v1/x/../messages", "/v1/%6dessages"]
)
async def test_other_spellings_of_a_path_are_the_same_operation(prepared: Target, path: str) -> None:
    found = await prepared.tenant.send(prepared.pod, prepared.key, path=path)
    if found.status == ACCEPTED:
        seen = await prepared.tenant.seen(prepared.pod)
        assert seen["last"]["path"] == "/v1/messages"
    else:
        assert found.status in (400, 404)
    assert (await prepared.tenant.send(prepared.pod, "", path=path)).status in (400, 401)


async def test_claimed_identity_and_source_are_replaced(prepared: Target) -> None:
    """What the client claims to be never reaches the application; the key never does either."""
    tenant, pod = prepared.tenant, prepared.pod
    claims = (
        ("x-sw-account", "globex"), ("X-SW-Key", "someone"), ("x-sw-source", "192.0.2.1"),
        ("x-sw-anything", "1"), ("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1"),
        ("x-real-ip", "192.0.2.1"), ("x-envoy-external-address", "192.0.2.1"),
    )  # fmt: skip
    assert (await tenant.send(pod, prepared.key, headers=claims)).status == ACCEPTED
    last = (await tenant.seen(pod))["last"]
    assert last["sendward"]["x-sw-account"] == "acme"
    assert last["sendward"]["x-sw-key"] == prepared.key[4:14]
    assert last["sendward"].get("x-sw-source", tenant.client.address) == tenant.client.address
    assert "x-sw-anything" not in last["sendward"]
    assert last["credentials"] == {"authorization": False, "x-api-key": False}
    assert not {"forwarded", "x-real-ip"} & set(last["headers"])


async def test_claimed_source_does_not_open_a_key(target: Target) -> None:
    """acme-otp is for 10.123.201.0/24 only; a header does not move the client there."""
    key = await target.tenant.key("acme-otp")
    for name in ("x-forwarded-for", "x-sw-source", "x-real-ip", "true-client-ip", "cf-connecting-ip"):
        found = await target.tenant.send(target.pod, key, headers=((name, "10.123.201.9"),))
        assert (found.status, found.code) == (403, "SW2401")


async def test_slow_clients_are_cut_off(target: Target) -> None:
    """Headers that never end, and a body that never comes: each ends with 408 or a closed connection."""
    tenant = target.tenant

    async def dribble() -> int:
        reader, writer = await tenant.connect(target.pod)
        writer.write(b"POST /v1/messages HTTP/1.1\r\nhost: x\r\n")
        found = asyncio.ensure_future(_slow_answer(reader))
        while not found.done():
            writer.write(b"x-slow: 1\r\n")
            await asyncio.wait([found], timeout=1.0)
        writer.close()
        return found.result()

    async def unfinished() -> int:
        reader, writer = await tenant.connect(target.pod)
        writer.write(request(key=target.key)[:-5])
        try:
            return await _slow_answer(reader)
        finally:
            writer.close()

    for status in await asyncio.gather(dribble(), unfinished()):
        assert status in (0, 408)


async def _slow_answer(reader: asyncio.StreamReader) -> int:
    async with asyncio.timeout(SLOW_SECONDS):
        try:
            line = await reader.readline()
        except ConnectionError:
            return 0
    return int(line.split()[1]) if line else 0


async def test_http2_is_judged_alike(target: Target) -> None:
    """Underscore headers, a missing and a doubled key over HTTP/2."""
    tenant = target.tenant
    for headers in (
        (("x_api_key", "x"),),
        (),
        (("x-api-key", target.key), ("x-api-key", target.other)),
        (("x-api-key", target.key), ("transfer-encoding", "chunked")),
        (("x-api-key", target.key), ("connection", "close")),
    ):
        reader, writer = await tenant.connect(target.pod, alpn=("h2",))
        writer.write(http2.request("POST", "/v1/messages", headers))
        await http2.answered(reader)
        writer.close()


async def test_refusals_are_counted_by_reason(target: Target) -> None:
    tenant = target.tenant
    assert (await tenant.raw(target.pod, request())).status == 401
    text = await _guard_metrics(tenant, target.pod)
    count = metric(text, "sendward_messages_total", reason="MissingKey", decision="Deny")
    assert count is not None, text
    assert count >= 1
    assert target.key not in text


async def _guard_metrics(tenant: Tenant, pod: Object) -> str:
    reader, writer = await tenant.client.open_connection(pod["status"]["podIP"], 15090)
    writer.write(b"GET /metrics/guard HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    found = await answer(reader)
    writer.close()
    return found.body.decode()


async def test_plain_text_on_the_tls_port_is_not_answered(target: Target) -> None:
    reader, writer = await target.tenant.client.open_connection(target.pod["status"]["podIP"], PORT)
    writer.write(request(key=target.key))
    assert (await answer(reader)).status == 0
    writer.close()


async def test_the_application_is_not_reachable_beside_the_sidecar(target: Target) -> None:
    with pytest.raises(ConnectionRefusedError):
        await target.tenant.client.open_connection(target.pod["status"]["podIP"], 8080)


OTHER_PATHS = (
    "/config_dump", "/quitquitquit", "/logging?level=trace", "/certs", "/stats", "/clusters", "/",
    "/metrics/../config_dump", "/metrics%2f..%2fconfig_dump", "/metrics/guard/x",
    "/app/application/readiness/../x",
)  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", OTHER_PATHS)
@pytest.mark.parametrize("port", [names.PORT_METRICS, names.PORT_PROBE])
async def test_other_ports_offer_metrics_and_probes_only(
    target: Target, port: int, path: str, method: str
) -> None:
    reader, writer = await target.tenant.client.open_connection(target.pod["status"]["podIP"], port)
    writer.write(f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".encode())
    found = await answer(reader)
    writer.close()
    assert found.status >= 400, found
