"""The real operator object over the fake API server and the fake Vault, with guards on its real hub."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import WSMsgType

from sendward import document, names
from sendward.apply import kinds
from sendward.apply.informer import Informer
from sendward.apply.kube import KubeClient
from sendward.apply.ports import Kind
from sendward.apply.signing import load_signer
from sendward.apply.vault import VaultClient
from sendward.apply.vault_auth import TokenLogin
from sendward.controller import handlers
from sendward.controller.app import Operator
from sendward.controller.settings import load
from sendward.controller.watch import Resources
from sendward.graph.facts import Pod
from sendward.protocol import Ack, HubMessage, Part, Report, Shares, SharesAck
from sendward.resources.base import ObjectKey
from tests.fakes.guard import FakeGuard, FakeTokens
from tests.fakes.kube import FakeKube
from tests.fakes.vault import ROOT, FakeVault

TENANT = "tenant"
_BY_KIND = {kind.kind: kind for kind in kinds.OURS}
_PATIENCE = 60.0


class Guard:
    """Takes and acknowledges every part at once; between `hold` and `release` it keeps them waiting."""

    def __init__(self, stream: FakeGuard) -> None:
        self._stream = stream
        self.parts: dict[str, document.Envelope] = {}
        self._held: list[document.Envelope] | None = None

    async def run(self) -> None:
        async with self._stream as guard:
            await guard.hello()
            async for frame in guard.stream:
                if frame.type is not WSMsgType.TEXT:
                    return
                message: HubMessage = msgspec.json.decode(frame.data, type=HubMessage)
                if isinstance(message, Part):
                    await self._take(document.decode(message.envelope))
                elif isinstance(message, Shares):
                    await guard.send(SharesAck(message.round))

    def hold(self) -> None:
        """Take nothing from now on."""
        self._held = []

    async def release(self) -> None:
        """Take what waited, and everything from now on."""
        held, self._held = self._held or [], None
        for envelope in held:
            await self._take(envelope)

    async def report(self, report: Report) -> None:
        """Tell the hub of demand and use."""
        await self._stream.send(report)

    async def _take(self, envelope: document.Envelope) -> None:
        if self._held is not None:
            self._held.append(envelope)
            return
        self.parts[envelope.part] = envelope
        await self._stream.send(Ack(envelope.part, envelope.epoch, envelope.revision))

    def accounts(self) -> dict[str, document.Account]:
        shards = [document.open_shard(e) for part, e in self.parts.items() if part != names.PART_GATEWAY]
        return {account.name: account for shard in shards for account in shard.accounts}


class Stand:
    """`async with Stand() as stand`."""

    def __init__(self) -> None:
        self.kube = FakeKube()
        self.vault = FakeVault()
        self.operator: Operator
        self._clients: list[KubeClient | VaultClient] = []
        self._task: asyncio.Task[None] | None = None
        self._guards: list[asyncio.Task[None]] = []
        self._tokens = FakeTokens()

    async def __aenter__(self) -> Self:
        await self.kube.__aenter__()
        await self.vault.__aenter__()
        labels = {names.LABEL_ONBOARDED: "true"}
        self.kube.put(kinds.NAMESPACE, {"metadata": {"name": TENANT, "labels": labels}})
        webhook = {"metadata": {"name": names.WEBHOOK_CONFIGURATION}, "webhooks": []}
        self.kube.put(kinds.MUTATING_WEBHOOK_CONFIGURATION, webhook)
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        await self.vault.__aexit__(kind, error, trace)
        await self.kube.__aexit__(kind, error, trace)

    # --- the process ----------------------------------------------------------------------------

    async def start(self) -> None:
        """A new process, up to its leadership."""
        kube, vault = KubeClient(self.kube.url), VaultClient(self.vault.url, TokenLogin(ROOT))
        self._clients = [kube, vault]
        settings = load({"SENDWARD_VAULT_ADDRESS": self.vault.url})
        signer = await load_signer(kube, settings.namespace)
        self.operator = Operator(
            settings, kube, vault, signer, follow=self._follow, hub_port=_free_port(), probe_port=0
        )
        self._task = asyncio.create_task(self.operator.run())
        await self.until(lambda: TENANT in self.operator.store.opened)

    async def stop(self) -> None:
        """End the process, and its guards' streams."""
        for task in [*self._guards, *([self._task] if self._task else [])]:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._guards, self._task = [], None
        for client in self._clients:
            await client.close()
        self._clients = []

    async def _follow(self, resources: Resources, url: str, identity: str) -> None:
        """The kinds that kopf watches; the fake API server has no discovery for it."""
        client = KubeClient(url)
        self._clients.append(client)
        async with asyncio.TaskGroup() as group:
            for kind in handlers.WATCHED:
                group.create_task(_informer(client, kind, resources).run())

    # --- users, pods, guards --------------------------------------------------------------------

    def put(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        """Create or change an object, as kubectl does: the status stays."""
        old = next((o for o in self.kube.objects(_BY_KIND[kind]) if o["metadata"]["name"] == name), {})
        obj = {"metadata": {"namespace": TENANT, "name": name}, "spec": spec}
        self.kube.put(_BY_KIND[kind], obj | ({"status": old["status"]} if old else {}))

    async def erase(self, kind: str, name: str) -> None:
        """Delete an object, as kubectl does."""
        client = KubeClient(self.kube.url)
        await client.delete(_BY_KIND[kind], TENANT, name)
        await client.close()

    async def add_guard(self, name: str, gateway: str) -> Guard:
        """A ready pod of a gateway with a guard on the hub."""
        native = [
            {"name": n, "restartPolicy": "Always"} for n in (names.GUARD_CONTAINER, names.PROXY_CONTAINER)
        ]
        made = self.kube.put(
            kinds.POD,
            {
                "metadata": {"namespace": TENANT, "name": name, "labels": {names.LABEL_GATEWAY: gateway}},
                "spec": {"initContainers": native},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            },
        )
        pod = Pod(
            made["metadata"]["uid"], TENANT, name, gateway, ready=True, terminating=False, injected=True
        )
        return await self.connect(pod)

    async def connect(self, pod: Pod) -> Guard:
        """A guard of a pod, on the hub of the process that runs now."""
        await self.until(lambda: self.operator.store.pod(TENANT, pod.name) is not None)
        token = self._tokens.issue(pod, time.time() + 3600)
        self.kube.tokens[token] = self._tokens.known[token]
        tls = ssl.create_default_context(cadata=self.operator.authority.bundle)
        guard = Guard(FakeGuard(self.operator.hub.port, token, tls))
        self._guards.append(asyncio.create_task(guard.run()))
        return guard

    # --- what there is --------------------------------------------------------------------------

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for a condition."""
        async with asyncio.timeout(_PATIENCE):
            while not holds():  # noqa: ASYNC110 - of two other processes
                await asyncio.sleep(0.01)

    async def rest(self, seconds: float = 1.0) -> None:
        """Wait until nobody but the Lease has spoken to the servers for a while."""
        seen = -1
        while seen != (seen := len(self.requests())):  # noqa: ASYNC110 - silence has no event
            await asyncio.sleep(seconds)

    def requests(self) -> list[tuple[str, str]]:
        """What reached the API server and Vault, without what comes by the clock (the Lease, the operator's
        own objects) and TokenReviews.
        """
        quiet = ("/leases", "/tokenreviews", f"/{names.OPERATOR_NAMESPACE}/", "/mutatingwebhook")
        return [
            (method, path)
            for method, path in [*self.kube.requests, *self.vault.requests]
            if not any(part in path for part in quiet)
        ]

    def writes(self) -> list[tuple[str, str]]:
        """Those that write, Events left out."""
        return [(m, p) for m, p in self.requests() if m != "GET" and not p.endswith("/events")]

    def get(self, kind: Kind, name: str) -> dict[str, Any] | None:
        """An object of the tenant."""
        for obj in self.kube.objects(kind):
            if (obj["metadata"].get("namespace"), obj["metadata"]["name"]) == (TENANT, name):
                return obj
        return None

    def condition(self, kind: str, name: str, type_: str) -> str:
        """Status of a condition of the current generation; "" when it does not stand."""
        obj = self.get(_BY_KIND[kind], name) or {"status": {}, "metadata": {}}
        for condition in obj["status"].get("conditions", []):
            if (
                condition["type"] == type_
                and condition["observedGeneration"] == obj["metadata"]["generation"]
            ):
                return str(condition["status"])
        return ""

    def secret(self, name: str) -> bytes | None:
        """The document in a Secret."""
        found = self.get(kinds.SECRET, name)
        return b64decode(found["data"]["document"]) if found else None


def _free_port() -> int:
    """One port for IPv4 and IPv6: port 0 would give two."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _informer(client: KubeClient, kind: Kind, resources: Resources) -> Informer:
    def event(type_: str, raw: dict[str, Any]) -> None:
        (resources.deleted if type_ == "DELETED" else resources.event)(kind.kind, raw)

    def reset(seen: Any) -> None:
        resources.reset(kind.kind, {ObjectKey(kind.kind, ns, name) for ns, name in seen})

    return Informer(client, kind, event, reset, _unexpected)


def _unexpected(kind: str) -> None:
    raise AssertionError(f"{kind}: nothing was restored")
