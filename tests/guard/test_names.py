"""Names that YAML, JSON, Envoy or a template may take for something else, from the resource to an answer."""

from __future__ import annotations

import ssl
from typing import Any, cast
from urllib.parse import urlencode

import pytest
from msgspec import structs
from yarl import URL

from sendward import names
from sendward.compile.document import gateway_part
from sendward.document import Gateway
from sendward.protocol import PPM, Ack, Hello, Part, Portions, Shares
from sendward.resources.base import Resource
from sendward.resources.messaging_gateway import MessagingGatewaySpec
from sendward.resources.parse import parse
from sendward.verdict import Reason
from tests.crds.cases import GATEWAY, an_object
from tests.fakes.hub import write_certificate
from tests.guard import builders
from tests.guard.harness import Harness, eventually

ACCOUNTS = ("n", "null", "true", "1e3", "0x1", "0", "none", "a" * 40)
PATHS = {
    "n": "/n",
    "y": "/~",
    "no": "/-",
    "null": "/null",
    "true": "/True/",
    "nan": "/NaN",
    "e3": "/1e3",
    "x1": "/0x1",
    "none": "/none",
    "guard": "/.hidden",
    "application": "/...",
    "operations": "/v1/..a",
    "a-": "/a..",
    "a--": "/_",
    "z" * 31: "/" + "z" * 255,
}
"""By the operation's name; all that a path may hold is in them."""

FIELDS = (
    "%REQ(x-api-key)%", "%20", "%", "{{}}", "${to}", '"', "'", "&", "=", ";", "#", "+", "\\", "null", "1e3",
)  # fmt: skip
PLACES = {
    "jsonPointer": (*FIELDS, "", "a\nb", "\x00", "\u202e", "~", "/", "0"),
    "queryParameter": FIELDS,
    "formField": FIELDS,
}
"""Names under which the recipient stands, by the kind of place."""
NUMBER = "+447700900123"


def compiled(pod: Harness, name: str, operations: list[dict[str, Any]]) -> Gateway:
    """The gateway's part as the operator compiles it of a resource that the schema admits."""
    spec = {
        "http": {"port": pod.port, "applicationPort": pod.application_port, "operations": operations},
        "tls": {"secretName": "server"},
        "sourceCIDRs": ["127.0.0.1/32"],
        "shards": 1,
    }
    found = parse(an_object(GATEWAY, spec, name))
    assert isinstance(found, Resource), found
    part = gateway_part(cast("Resource[MessagingGatewaySpec]", found), 1)
    return structs.replace(part, uid=builders.GATEWAY_UID, envoy=pod.local(part.envoy))


async def serve(pod: Harness, part: Gateway) -> ssl.SSLContext:
    """The pod enforces this part and one key for each account; returns what its clients trust."""
    certificate = write_certificate(pod.path(names.PATH_TLS))
    await pod.hub.wait_for(Hello)
    await pod.hub.send(Shares(round=1, default=PPM, filled=Portions(PPM)))
    accounts = (builders.account(name, builders.key(name)) for name in ACCOUNTS)
    await pod.hub.send(Part(builders.sealed(builders.shard(*accounts), 1)))
    await pod.hub.send(Part(builders.sealed(part, 1)))
    await pod.hub.wait_for(Ack, lambda ack: ack.part == "gateway")
    await eventually(pod.ready, "readiness")
    return ssl.create_default_context(cafile=certificate)


async def ask(
    pod: Harness,
    trust: ssl.SSLContext,
    method: str,
    target: str,
    key: str,
    headers: dict[str, str] | None = None,
    **body: Any,
) -> tuple[int, str]:
    """Status, and the code of a refusal. `target` goes out as it is."""
    url = URL(f"https://localhost:{pod.port}{target}", encoded=True)
    sent = {"x-api-key": key, **(headers or {})}
    async with pod.session.request(method, url, headers=sent, ssl=trust, **body) as answer:
        found = await answer.json(content_type=None)
        return answer.status, found.get("code", "")


@pytest.mark.parametrize("name", ["n", "null", "1e3", "0x1"])
async def test_a_gateway_and_its_operations_may_have_any_name_that_the_schema_admits(
    pod: Harness, name: str
) -> None:
    """A good key of each account is accepted on each path, and a bad one is not."""
    operations = [{"name": each, "method": "POST", "path": path} for each, path in PATHS.items()]
    operations.append({"name": "false", "method": "POST", "path": "/below/~", "pathMatch": "Prefix"})
    operations.append({"name": "off", "method": "DELETE", "path": "/", "pathMatch": "Prefix"})
    trust = await serve(pod, compiled(pod, name, operations))
    wanted = [("POST", path) for path in (*PATHS.values(), "/below/~", "/below/~/~")]
    wanted += [("DELETE", "/"), ("DELETE", "/anything")]
    bad = builders.credential("bad").value
    for method, path in wanted:
        assert await ask(pod, trust, method, path, bad) == (401, Reason.UnknownKey.code), path
        assert await ask(pod, trust, method, path, "null") == (401, Reason.MalformedKey.code), path
        assert pod.received == []
        for account in ACCOUNTS:
            key = builders.credential(account)
            assert await ask(pod, trust, method, path, key.value) == (200, ""), (path, account)
            received = pod.received.pop()
            assert (received[names.HEADER_ACCOUNT], received[names.HEADER_KEY]) == (account, key.id)
    good = builders.credential("null").value
    for path in ("/N", "/1000", "/None", "/below/~a", "/True", "/1E3", "/.."):
        assert (await ask(pod, trust, "POST", path, good))[0] in {404, 405}, path
    assert pod.received == []


def submission(place: str, name: str) -> tuple[str, dict[str, Any]]:
    """The query of a message whose recipient stands under this name, and its body and headers."""
    if place == "jsonPointer":
        return "", {"json": {name: NUMBER}}
    pair = urlencode({name: NUMBER})
    if place == "queryParameter":
        return f"?{pair}", {}
    return "", {"data": pair, "headers": {"content-type": "application/x-www-form-urlencoded"}}


@pytest.mark.parametrize("place", PLACES)
async def test_a_recipient_is_found_under_any_name_that_the_schema_admits(pod: Harness, place: str) -> None:
    """And nowhere else: what has no recipient there is no message."""
    operations = [
        {"name": f"o{n}", "path": f"/{n}", "message": {"recipient": {place: declared(place, name)}}}
        for n, name in enumerate(PLACES[place])
    ]
    trust = await serve(pod, compiled(pod, "n", operations))
    good = builders.credential("null").value
    malformed = (400, Reason.MalformedMessage.code)
    for n, name in enumerate(PLACES[place]):
        query, rest = submission(place, name)
        assert await ask(pod, trust, "POST", f"/{n}{query}", good, **rest) == (200, ""), name
        query, rest = submission(place, f"{name}x")
        assert await ask(pod, trust, "POST", f"/{n}{query}", good, **rest) == malformed, name
    assert len(pod.received) == len(PLACES[place])


def declared(place: str, name: str) -> str:
    """The name as a spec has it."""
    if place == "jsonPointer":
        return "/" + name.replace("~", "~0").replace("/", "~1")
    return name
