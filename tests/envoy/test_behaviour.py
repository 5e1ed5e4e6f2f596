"""What the compiled configuration does in a real Envoy: the guard's view, and what never gets past."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from sendward import names
from sendward.verdict import ProxyReason
from tests.envoy import http2
from tests.envoy.stand import Seen, Stand, gateway_spec, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

# What Envoy itself adds to a question to the guard.
ASKED_WITH = {
    "host",
    "content-length",
    "x-envoy-auth-partial-body",
    "x-envoy-internal",
    "x-envoy-expected-rq-timeout-ms",
}
KEY = "swk_0123456789_canarycanary"
NUMBER = "+447700900123"
POST = b"POST /v1/messages HTTP/1.1\r\nHost: a\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Stand]:
    async with running(gateway_spec()) as stand:
        yield stand


@pytest.fixture
def stand(shared: Stand) -> Stand:
    shared.reset()
    return shared


async def test_message_passes_with_identity_and_without_key(stand: Stand) -> None:
    reply = await stand.send(headers=(f"X-API-Key: {KEY}", "X-Custom: 1"), body=b'{"to":"x"}')
    assert (reply.status, reply.body) == (200, b'{"id": "m-1"}')
    (asked,), (got,) = stand.guard.seen, stand.application.seen
    assert (asked.method, asked.path, asked.body) == ("POST", "/v1/messages", b'{"to":"x"}')
    assert asked.values("x-api-key") == [KEY]
    assert {name for name, _ in asked.headers} <= {*names.HEADERS_JUDGED, *ASKED_WITH}
    assert got.values("x-sw-account") == ["acme"]
    assert got.values("x-sw-key") == ["k1"]
    assert got.body == b'{"to":"x"}'
    for secret in ("x-api-key", "authorization", "x-sw-source"):
        assert got.values(secret) == []


async def test_authorization_reaches_the_guard_only(stand: Stand) -> None:
    await stand.send(headers=(f"Authorization: Bearer {KEY}",))
    assert stand.guard.seen[0].values("authorization") == [f"Bearer {KEY}"]
    assert stand.application.seen[0].values("authorization") == []


async def test_answers_name_no_software(stand: Stand) -> None:
    reply = await stand.send()
    assert not {"server", "x-powered-by"} & reply.headers.keys()
    assert not [name for name in reply.headers if name.startswith("x-envoy")]


async def test_spoofed_identity_is_removed(stand: Stand) -> None:
    spoofed = ("X-SW-Account: evil", "x-sw-key: evil", "x-sw-source: 9.9.9.9", "x-sw-anything: evil")
    stand.guard.answer = lambda _seen: web.Response()
    await stand.send(
        headers=(*spoofed, "X-Forwarded-For: 9.9.9.9", "X-Real-IP: 9.9.9.9", "Forwarded: for=9.9.9.9")
    )
    (asked,), (got,) = stand.guard.seen, stand.application.seen
    assert asked.values("x-sw-source") == ["127.0.0.1"]
    assert not [name for name, _ in got.headers if name.startswith(names.HEADER_PREFIX)]
    for seen in (asked, got):
        assert "evil" not in str(seen)
        assert "9.9.9.9" not in str(seen)


async def test_client_cannot_have_our_headers_dropped(stand: Stand) -> None:
    """`Connection` names headers that end at the next hop."""
    await stand.send(headers=("Connection: x-sw-source, x-sw-account, x-sw-key",))
    assert stand.guard.seen[0].values("x-sw-source") == ["127.0.0.1"]
    assert stand.application.seen[0].values("x-sw-account") == ["acme"]


async def test_envoy_is_not_steered_by_headers(stand: Stand) -> None:
    await stand.send(
        headers=("x-envoy-original-path: /v1/balance", "x-envoy-retry-on: 5xx", "x-request-id: mine")
    )
    assert stand.guard.seen[0].values("x-envoy-original-path") == []
    assert stand.application.seen[0].values("x-envoy-retry-on") == []
    assert stand.guard.seen[0].values("x-request-id") != ["mine"]


async def test_no_header_smuggles_another_operation(stand: Stand) -> None:
    """Frameworks obey such headers instead of the request line, which is what the guard judged."""
    claims = {
        "X-HTTP-Method": "DELETE",
        "X-HTTP-Method-Override": "DELETE",
        "X-Method-Override": "DELETE",
        "X-Original-URI": "/v1/balance",
        "X-Original-URL": "/v1/balance",
        "X-Rewrite-URL": "/v1/balance",
    }
    reply = await stand.send(headers=tuple(f"{name}: {value}" for name, value in claims.items()))
    assert reply.status == 200
    for seen in (stand.guard.seen[0], stand.application.seen[0]):
        assert not [name for name in claims if seen.values(name.lower())]


@pytest.mark.parametrize("header", ["x_sw_account: evil", "x_api_key: swk_x"])
async def test_underscores_are_refused(stand: Stand, header: str) -> None:
    reply = await stand.send(headers=(header,))
    assert reply.problem["code"] == ProxyReason.BadRequest.code
    assert stand.guard.seen == []


async def test_guard_sees_both_of_two_keys(stand: Stand) -> None:
    await stand.send(
        headers=("x-api-key: one", "x-api-key: two", "Authorization: Bearer a", "Authorization: Bearer b")
    )
    assert stand.guard.seen[0].values("x-api-key") == ["one,two"]
    assert stand.guard.seen[0].values("authorization") == ["Bearer a,Bearer b"]


@pytest.mark.parametrize(
    ("path", "judged"),
    [
        ("//v1///messages", "/v1/messages"),
        ("/v1/x/../messages", "/v1/messages"),
        ("/v1/x/%2e%2e/messages", "/v1/messages"),
        ("/v1/x/..;/messages", "/v1/messages"),
        ("/v1\\messages", "/v1/messages"),
        ("/v1/%6dessages", "/v1/messages"),
        ("/v1/messages?to=%2f", "/v1/messages?to=%2f"),
    ],
)
async def test_paths_are_judged_in_one_spelling(stand: Stand, path: str, judged: str) -> None:
    assert (await stand.send(path=path)).status == 200
    assert [seen.path for seen in stand.guard.seen] == [judged]
    assert [seen.path for seen in stand.application.seen] == [judged]


@pytest.mark.parametrize(
    "path", ["/v1%2fmessages", "/v1%5Cmessages", "/v1/messages%00", "/v1/messages#x", "x"]
)
async def test_ambiguous_paths_are_refused(stand: Stand, path: str) -> None:
    reply = await stand.send(path=path)
    assert reply.problem == {
        "type": "urn:sendward:problem:SW2901",
        "title": ProxyReason.BadRequest.title,
        "status": 400,
        "code": "SW2901",
    }
    assert stand.guard.seen == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/messagesX"),
        ("POST", "/v1/messages/7"),
        ("PUT", "/v1/messages"),
        ("GET", "/v1/balance/"),
        ("GET", "/v1/messagesX"),
        ("GET", "/v1/messages/cancel;x"),
        ("GET", "/metrics"),
    ],
)
async def test_only_operations_reach_the_application(stand: Stand, method: str, path: str) -> None:
    reply = await stand.send(method, path)
    assert reply.problem["code"] == ProxyReason.NotFound.code
    assert len(stand.guard.seen) == 1
    assert stand.application.seen == []


@pytest.mark.parametrize(
    "path", ["/v1/messages", "/v1/messages/7", "/v1/messages/7/parts", "/v1/balance?x=1"]
)
async def test_operations_reach_the_application(stand: Stand, path: str) -> None:
    assert (await stand.send("GET", path)).status == 200
    assert stand.application.seen[0].path == path


async def test_unknown_path_is_401_before_it_is_404(stand: Stand) -> None:
    stand.guard.answer = _denied
    assert (await stand.send(path="/nothing")).status == 401


def _denied(_seen: Seen) -> web.Response:
    return web.Response(
        status=401,
        text='{"code":"SW2201"}',
        content_type="application/problem+json",
        headers={
            "x-sw-reason": "SW2201",
            "www-authenticate": "Bearer",
            "retry-after": "7",
            "x-internal": "1",
        },
    )


async def test_refusal_of_the_guard_arrives_unchanged(stand: Stand) -> None:
    stand.guard.answer = _denied
    reply = await stand.send()
    assert (reply.status, reply.body) == (401, b'{"code":"SW2201"}')
    assert reply.headers["content-type"].startswith("application/problem+json")
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.headers["retry-after"] == "7"
    assert not {"x-internal", "server"} & reply.headers.keys()
    assert stand.application.seen == []


async def test_guard_says_503_with_its_own_body(stand: Stand) -> None:
    stand.guard.answer = lambda _seen: web.Response(status=names.STATUS_UNAVAILABLE, text='{"code":"SW2001"}')
    reply = await stand.send()
    assert (reply.status, reply.body) == (503, b'{"code":"SW2001"}')


@pytest.mark.parametrize("status", [500, 503])
async def test_broken_guard_refuses(stand: Stand, status: int) -> None:
    stand.guard.answer = lambda _seen: web.Response(status=status, text="x")
    reply = await stand.send()
    assert (reply.status, reply.problem["code"]) == (503, ProxyReason.GuardUnavailable.code)
    assert stand.application.seen == []


async def test_body_limit(stand: Stand) -> None:
    assert (await stand.send(body=b"x" * 4096)).status == 200
    reply = await stand.send(body=b"x" * 4097)
    assert (reply.status, reply.problem["code"]) == (413, ProxyReason.BodyTooLarge.code)
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    reply = await stand.raw(chunked + b"1001\r\n" + b"x" * 4097 + b"\r\n0\r\n\r\n")
    assert reply.status == 413
    assert [len(seen.body) for seen in stand.guard.seen] == [4096]


async def test_chunked_body_reaches_the_guard_with_a_length(stand: Stand) -> None:
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    assert (await stand.raw(head + b"3\r\nabc\r\n0\r\n\r\n")).status == 200
    (asked,) = stand.guard.seen
    assert asked.body == stand.application.seen[0].body == b"abc"
    assert asked.values("content-length") == ["3"]
    assert asked.values("transfer-encoding") == []


@pytest.mark.parametrize(
    "headers", [("x-big: " + "a" * 20000,), tuple(f"h{n}: 1" for n in range(100))], ids=["large", "many"]
)
async def test_header_limits(stand: Stand, headers: tuple[str, ...]) -> None:
    reply = await stand.send(headers=headers)
    assert (reply.status, reply.problem["code"]) == (431, ProxyReason.HeadersTooLarge.code)
    assert stand.guard.seen == []


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        (b"GET /v1/balance HTTP/1.1\r\n\r\n", 400),
        (b"GET /v1/balance HTTP/1.0\r\nHost: a\r\n\r\n", 426),
        (b"GET /v1/balance HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 403),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 404),
        (b"\x00\x01\r\n\r\n", 400),
    ],
    ids=["cl-te", "two-cl", "te-unknown", "no-host", "http-1.0", "upgrade", "connect", "garbage"],
)  # fmt: skip
async def test_http_that_smuggles_is_refused(stand: Stand, request_bytes: bytes, status: int) -> None:
    reply = await stand.raw(request_bytes)
    assert (reply.status, reply.problem["status"]) == (status, status)
    assert stand.guard.seen == stand.application.seen == []


async def test_problem_names_no_path(stand: Stand) -> None:
    reply = await stand.send(path=f"/nothing/{NUMBER}")
    assert reply.problem["code"] == ProxyReason.NotFound.code
    assert NUMBER.encode() not in reply.body


async def test_tls_below_1_3_is_refused(stand: Stand) -> None:
    old = stand.tls()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert (await stand.send(context=old)).status == 0


async def test_source_outside_the_gateways_cidrs_is_closed(stand: Stand) -> None:
    assert (await stand.send(source="127.0.0.2")).status == 0
    assert stand.guard.seen == []


async def test_log_has_no_path_number_key_or_body() -> None:
    async with running(gateway_spec()) as stand:
        await stand.send(
            path=f"/v1/messages?to={NUMBER}&apikey={KEY}",
            headers=(
                f"x-api-key: {KEY}",
                f"User-Agent: {NUMBER}",
                f"Referer: /{KEY}",
                f"x-request-id: {NUMBER}",
            ),
            body=json.dumps({"to": NUMBER, "text": "hello"}).encode(),
        )
        stand.guard.answer = _denied
        await stand.send("GET", f"/v1/messages/{NUMBER}", headers=(f"Authorization: Bearer {KEY}",))
        await stand.send(path=f"/v1%2f{NUMBER}")
        await stand.send(NUMBER[1:], path="/v1/messages")
        sent, refused, *rest = await stand.log_entries(4)
        assert sent["operation"] == "send"
        assert (sent["account"], sent["key"], sent["status"]) == ("acme", "k1", 200)
        assert (sent["source"], sent["tls"], sent["method"]) == ("127.0.0.1", "TLSv1.3", "POST")
        assert refused["operation"] == "status"
        assert (refused["reason"], refused["details"], refused["status"]) == (
            "SW2201",
            "ext_authz_denied",
            401,
        )
        assert [entry["status"] for entry in rest] == [400, 400]
        log = stand.log.read_text()
        for canary in (NUMBER, NUMBER[1:], KEY, "canary", "hello", "/v1"):
            assert canary not in log


async def test_dead_guard_refuses() -> None:
    async with running(gateway_spec()) as stand:
        await stand.guard.stop()
        reply = await stand.send()
        assert (reply.status, reply.problem["code"]) == (503, ProxyReason.GuardUnavailable.code)
        assert stand.application.seen == []


async def test_dead_application_is_503() -> None:
    async with running(gateway_spec()) as stand:
        await stand.application.stop()
        assert (await stand.send()).problem["code"] == ProxyReason.ApplicationUnavailable.code


async def _http2(stand: Stand, method: str, headers: tuple[tuple[str, str], ...] = ()) -> bool:
    reader, writer = await stand.connect(context=stand.tls(alpn="h2"))
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    try:
        writer.write(http2.request(method, "/v1/balance", headers))
        return await asyncio.wait_for(http2.answered(reader), 10)
    finally:
        writer.transport.abort()


async def test_http2_is_judged_alike(stand: Stand) -> None:
    spoofed = (("x-sw-source", "9.9.9.9"), ("x-api-key", "one"), ("x-api-key", "two"))
    assert await _http2(stand, "GET", spoofed)
    (asked,) = stand.guard.seen
    assert asked.values("x-api-key") == ["one,two"]
    assert asked.values("x-sw-source") == ["127.0.0.1"]
    assert len(stand.application.seen) == 1


async def test_http2_underscores_are_reset(stand: Stand) -> None:
    assert not await _http2(stand, "GET", (("x_sw_account", "evil"),))
    assert stand.guard.seen == []


async def test_a_method_without_operation_is_not_logged() -> None:
    async with running(gateway_spec()) as stand:
        await _http2(stand, NUMBER)
        (entry,) = await stand.log_entries(1)
        assert (entry["operation"], "method" in entry) == ("none", False)
        assert "447700" not in stand.log.read_text()
