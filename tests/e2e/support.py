"""What the end-to-end tests share: a tenant with the quickstart's policies and its gateway's pods, raw
HTTP through the real sidecar, and a record of every key value for the search at the end."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sendward import names
from tests.lab.pods.network import Client, client_namespace
from tests.lab.prerequisites import LabError
from tests.lab.stack import SYSTEM, Object, Stack, StackError, eventually

GATEWAY: Final = "sms"
PORT: Final = 8443
SELECTOR: Final = f"{names.LABEL_GATEWAY}={GATEWAY}"
SOURCE: Final = "10.123.200.7"  # inside the quickstart's allowed networks
RECIPIENT: Final = "+15557654321"
ACCEPTED: Final = 202
ANSWER_SECONDS: Final = 20.0
MESSAGE: Final = {"to": RECIPIENT, "from": "ACME", "text": "e2e"}


@dataclass(frozen=True)
class Answer:
    """What came back for one request."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """`code` of a problem+json body, else empty."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return ""
        return str(found.get("code", "")) if isinstance(found, dict) else ""


@dataclass
class Record:
    """Everything that the search for leaked values needs and that tests delete before it runs."""

    folder: Path
    keys: set[str] = field(default_factory=set)

    async def note(self, stack: Stack, namespace: str) -> None:
        """Remember every value that Vault holds for a namespace now, of all versions."""
        uid = json.loads(await stack.kubectl("get", "namespace", namespace, "-o", "json"))["metadata"]["uid"]
        for path in (
            (await stack.vault_get(f"sendward/metadata/{uid}?list=true")).get("data", {}).get("keys", [])
        ):
            versions = (await stack.vault_get(f"sendward/metadata/{uid}/{path}"))["data"]["versions"]
            for version in versions:
                found = await stack.vault_get(f"sendward/data/{uid}/{path}?version={version}")
                if value := ((found.get("data") or {}).get("data") or {}).get("key"):
                    self.keys.add(value)

    async def dump(self, stack: Stack, namespace: str) -> None:
        """Write down all objects of a namespace, except the Secrets that hand keys over."""
        kinds = (await stack.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name")).split()
        wanted = ",".join(kind for kind in kinds if kind != "secrets")
        text = await stack.kubectl("get", wanted, "-n", namespace, "-o", "json", "--show-managed-fields")
        secrets = await stack.listing("secrets", namespace)
        kept = [s for s in secrets if s["metadata"].get("labels", {}).get(names.LABEL_PART) != "hand-over"]
        target = self.folder / f"{namespace}-{uuid.uuid4().hex[:6]}.json"
        await asyncio.to_thread(target.write_text, text + json.dumps(kept))


@dataclass
class Tenant:
    """An onboarded namespace with the quickstart applied, seen by one client."""

    stack: Stack
    namespace: str
    client: Client
    tls: ssl.SSLContext
    record: Record

    # --- objects ------------------------------------------------------------------------------------

    async def get(self, kind: str, name: str) -> Object:
        return await self.stack.get(kind, name, self.namespace)

    async def find(self, kind: str, name: str) -> Object | None:
        """The object, None if there is none."""
        text = await self.stack.kubectl(
            "get", kind, name, "-n", self.namespace, "-o", "json", "--ignore-not-found"
        )
        return json.loads(text) if text else None

    async def patch(self, kind: str, name: str, change: Object) -> None:
        await self.stack.patch(kind, name, self.namespace, change)

    async def apply(self, *objects: Object) -> None:
        await self.stack.apply(list(objects), self.namespace)

    async def delete(self, kind: str, name: str, *, wait: bool = True) -> None:
        await self.stack.kubectl(
            "delete", kind, name, "-n", self.namespace, f"--wait={str(wait).lower()}", "--timeout=60s"
        )

    async def condition(self, kind: str, name: str, wanted: str) -> tuple[str, str, str]:
        """(status, reason, message) of a condition of the present generation, else empty strings."""
        found = await self.stack.condition(kind, name, self.namespace, wanted)
        return (found["status"], found["reason"], found["message"]) if found else ("", "", "")

    async def until_condition(
        self, kind: str, name: str, wanted: str, status: str, reason: str = "", *, seconds: float = 30.0
    ) -> str:
        """Wait for a condition; returns its message."""

        async def check() -> tuple[str, str, str] | None:
            found = await self.condition(kind, name, wanted)
            return found if found[0] == status and reason in ("", found[1]) else None

        try:
            found: tuple[str, str, str] = await eventually(
                check, f"{kind} {name} {wanted}={status} {reason}", seconds=seconds
            )
        except StackError as error:
            shown = json.dumps((await self.get(kind, name)).get("status", {}))
            raise AssertionError(f"{error}; status: {shown}") from None
        return found[2]

    async def ready(self, kind: str, name: str) -> None:
        await self.stack.wait_for(kind, name, self.namespace, seconds=60)

    async def key(self, name: str, version: int = 0) -> str:
        """A key's value, from Vault."""
        value = await self.stack.key(name, self.namespace, version)
        self.record.keys.add(value)
        return value

    # --- pods ---------------------------------------------------------------------------------------

    async def pods(self, count: int, gateway: str = GATEWAY) -> list[Object]:
        return await self.stack.ready_pods(self.namespace, f"{names.LABEL_GATEWAY}={gateway}", count)

    async def pod(self, gateway: str = GATEWAY) -> Object:
        """The only pod of a gateway, Ready."""
        return (await self.pods(1, gateway))[0]

    async def seen(self, pod: Object) -> Object:
        """What the application behind the sidecar saw: `accepted` (a count) and `last`."""
        network = self.stack.runner.network_of(self.namespace, pod["metadata"]["name"])
        made = network.socket()
        await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", 8080))
        reader, writer = await asyncio.open_connection(sock=made)
        request = b"GET /debug/last HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n"
        found: Object = json.loads((await exchange(reader, writer, request)).body)
        return found

    def guard_pid(self, pod: Object) -> int:
        return self.stack.runner.pid_of(self.namespace, pod["metadata"]["name"], names.GUARD_CONTAINER)

    # --- traffic ------------------------------------------------------------------------------------

    async def connect(
        self, pod: Object, *, alpn: tuple[str, ...] = ("http/1.1",), port: int = PORT
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TLS connection to the sidecar."""
        self.tls.set_alpn_protocols(list(alpn))
        return await self.client.open_connection(
            pod["status"]["podIP"], port, ssl=self.tls, server_hostname="sms.quickstart.example"
        )

    async def raw(self, pod: Object, request: bytes) -> Answer:
        """One request, byte by byte as given, on its own connection."""
        reader, writer = await self.connect(pod)
        return await exchange(reader, writer, request)

    async def send(self, pod: Object, key: str, **options: Any) -> Answer:
        """A well-formed message; options as `request`."""
        return await self.raw(pod, request(key=key, **options))


def request(
    *,
    key: str = "",
    method: str = "POST",
    path: str = "/v1/messages",
    headers: tuple[tuple[str, str], ...] = (),
    body: bytes | None = None,
    content_type: str = "application/json",
) -> bytes:
    """The bytes of an HTTP/1.1 request with the key as bearer token."""
    content = json.dumps(MESSAGE).encode() if body is None else body
    lines = [f"{method} {path} HTTP/1.1", "host: sms.quickstart.example"]
    if key:
        lines.append(f"authorization: Bearer {key}")
    lines += [f"{name}: {value}" for name, value in headers]
    if content_type:
        lines.append(f"content-type: {content_type}")
    lines.append(f"content-length: {len(content)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> Answer:
    """Send, read one answer, close. Status 0: the connection was closed without an answer."""
    try:
        writer.write(data)
        return await answer(reader)
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader) -> Answer:
    """Read one HTTP/1.1 answer. Status 0: the connection was closed without one."""
    async with asyncio.timeout(ANSWER_SECONDS):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return Answer(0, {}, b"")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        if headers.get("transfer-encoding") == "chunked":
            body = await _chunked(reader)
        else:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(head[0].split()[1]), headers, body)


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    found = b""
    while size := int(await reader.readline(), 16):
        found += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return found


@asynccontextmanager
async def new_tenant(
    stack: Stack, record: Record, *, address: str = SOURCE, replicas: int = 1, label: str = "e2e"
) -> AsyncIterator[Tenant]:
    """Onboard a fresh namespace, apply the quickstart, deploy its gateway; delete it afterwards."""
    namespace = f"{label}-{uuid.uuid4().hex[:6]}"
    await stack.onboard(namespace)
    await stack.quickstart(namespace)
    if replicas:
        await stack.deploy_gateway(namespace, replicas=replicas)
    async with client_namespace(address) as client:
        tenant = Tenant(stack, namespace, client, await stack.client_tls(), record)
        try:
            if replicas:
                await tenant.pods(replicas)
                for kind, name in (
                    ("mgw", "sms"),
                    ("sender", "acme"),
                    ("akey", "acme-shop"),
                    ("akey", "globex-main"),
                ):
                    await tenant.ready(kind, name)
            yield tenant
        finally:
            await remove(tenant)


async def remove(tenant: Tenant) -> None:
    """Write down what the last search needs, delete the namespace, wait until it is gone."""
    stack, namespace = tenant.stack, tenant.namespace
    try:
        await tenant.record.note(stack, namespace)
        await tenant.record.dump(stack, namespace)
    except LabError as error:
        if "NotFound" not in str(error):
            raise
        return
    await stack.kubectl("delete", "namespace", namespace, "--wait=false")

    async def gone() -> bool:
        return not await stack.kubectl("get", "namespace", namespace, "--ignore-not-found", "-o", "name")

    await eventually(gone, f"namespace {namespace} deleted", seconds=90)


async def operators(stack: Stack, count: int = 2) -> list[Object]:
    """The Ready operator pods."""
    return await stack.ready_pods(SYSTEM, "app.kubernetes.io/component=operator", count)


async def scale_operator(stack: Stack, replicas: int) -> None:
    """Set the number of operator pods; with 0 wait until none is left."""
    await stack.kubectl("scale", "deployment", "sendward-operator", "-n", SYSTEM, f"--replicas={replicas}")
    if replicas:
        await operators(stack, replicas)

        async def led() -> bool:
            return await stack.leader() in {p["metadata"]["name"] for p in await operators(stack, replicas)}

        await eventually(led, "an operator leads", seconds=40)
        return

    async def none() -> bool:
        found = await stack.kubectl(
            "get", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator", "-o", "name"
        )
        return not found

    await eventually(none, "no operator pod", seconds=60)


def metric(text: str, name: str, **labels: str) -> float | None:
    """The value of a sample in Prometheus' text format whose labels include these."""
    for line in text.splitlines():
        if match := re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line):
            held = dict(re.findall(r'(\w+)="([^"]*)"', match[1] or ""))
            if labels.items() <= held.items():
                return float(match[2])
    return None
