"""Who a guard is, and that nobody else can speak for the operator: tokens, pods, shards, mounts."""

import asyncio
import json
import os
import ssl
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from sendward import document, names
from sendward.protocol import HUB_PATH, MAX_MESSAGE_BYTES, Hello, HubMessage, Part
from tests.e2e.support import ACCEPTED, Record, Tenant, new_tenant
from tests.lab.images import LAB_SHELL
from tests.lab.prerequisites import LabError
from tests.lab.stack import SYSTEM, Object, Stack, eventually

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]

REPAIR_SECONDS = 5.0  # what the design promises for drift
HUB_HOST = f"{names.HUB_SERVICE}.{SYSTEM}.svc"


class Hub:
    """Speaks to the leader's hub with whatever token a test has."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    @asynccontextmanager
    async def stream(self, token: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        leader = await self._stack.get("pod", await self._stack.leader(), SYSTEM)
        address = f"wss://{leader['status']['podIP']}:{names.PORT_HUB}{HUB_PATH}"
        ca = b64decode((await self._stack.get("secret", names.SECRET_CA, SYSTEM))["data"]["ca.crt"]).decode()
        tls = ssl.create_default_context(cadata=ca)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(
                address, headers=headers, ssl=tls, server_hostname=HUB_HOST, max_msg_size=MAX_MESSAGE_BYTES
            ) as stream,
        ):
            yield stream

    async def refusal(self, token: str) -> int:
        """The HTTP status by which the hub refuses the token; 0 if it does not."""
        try:
            async with self.stream(token):
                return 0
        except aiohttp.WSServerHandshakeError as error:
            return error.status

    async def parts(self, token: str, count: int) -> list[document.Envelope]:
        """The first envelopes that the hub sends to somebody who holds nothing."""
        async with self.stream(token) as stream:
            await stream.send_bytes(msgspec.json.encode(Hello([document.FORMAT], 0, {}, None)))
            found: list[document.Envelope] = []
            async with asyncio.timeout(20):
                while len(found) < count:
                    message: HubMessage = msgspec.json.decode((await stream.receive()).data, type=HubMessage)
                    if isinstance(message, Part):
                        found.append(document.decode(message.envelope))
            return found


async def token(tenant: Tenant, pod: Object | None, *, audience: str = names.AUDIENCE) -> str:
    """A service-account token, bound to a pod or to nothing."""
    bound = ["--bound-object-kind=Pod", f"--bound-object-name={pod['metadata']['name']}"] if pod else []
    made = await tenant.stack.kubectl(
        "create", "token", "default", "-n", tenant.namespace, f"--audience={audience}", *bound
    )
    return made.strip()


async def test_the_hub_takes_tokens_of_injected_pods_only(tenant: Tenant) -> None:
    hub, pod = Hub(tenant.stack), await tenant.pod()
    assert await hub.refusal("") == 401
    assert await hub.refusal("garbage") == 401
    assert await hub.refusal(await token(tenant, pod, audience="https://elsewhere.example")) == 401
    assert await hub.refusal(await token(tenant, None)) == 403
    forged = (await token(tenant, pod)).split(".")
    claims = json.loads(b64decode(forged[1] + "=="))
    claims["sub"] = "system:serviceaccount:other:default"
    forged[1] = b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    assert await hub.refusal(".".join(forged)) == 401


async def test_a_pod_without_sidecar_gets_nothing(tenant: Tenant) -> None:
    await tenant.apply(plain_pod("bystander"))
    pod = await eventually(lambda: tenant.find("pod", "bystander"), "the pod exists")
    assert await Hub(tenant.stack).refusal(await token(tenant, pod)) == 403
    await tenant.delete("pod", "bystander")


def plain_pod(name: str, volumes: list[Object] | None = None, mounts: list[Object] | None = None) -> Object:
    """A pod that belongs to no gateway."""
    container: dict[str, Any] = {"name": "main", "image": LAB_SHELL, "args": ["-c", "sleep 3600"]}
    spec: dict[str, Any] = {"containers": [container], "terminationGracePeriodSeconds": 0}
    if volumes:
        container["volumeMounts"] = mounts
        spec["volumes"] = volumes
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


async def test_a_guard_gets_its_own_gateway_only(tenant: Tenant, stack: Stack, record: Record) -> None:
    async with new_tenant(stack, record, address="10.123.203.9", label="neighbour") as other:
        mine, theirs = await tenant.pod(), await other.pod()
        uids = {t.namespace: (await t.get("mgw", "sms"))["metadata"]["uid"] for t in (tenant, other)}
        for owner, pod in ((tenant, mine), (other, theirs)):
            found = await Hub(stack).parts(await token(owner, pod), 17)
            assert {envelope.gateway for envelope in found} == {uids[owner.namespace]}
        with pytest.raises(LabError, match="not found"):  # of another namespace
            await token(tenant, theirs)
        await _foreign_shard(tenant, other)


async def _foreign_shard(tenant: Tenant, other: Tenant) -> None:
    """The neighbour's shards, genuinely signed, put into this namespace: repaired, and not enforced."""
    key = await other.key("acme-shop")
    for part in ("0", names.PART_GATEWAY):
        foreign = (await other.get("secret", names.document_secret("sms", part)))["data"]["document"]
        await _replace_part(tenant, part, foreign)
    assert (await tenant.send(await tenant.pod(), key)).status == 401


async def _replace_part(tenant: Tenant, part: str, content: str) -> None:
    """Overwrite a document Secret; wait until the operator has put it right."""
    name = names.document_secret("sms", part)
    before = (await tenant.get("secret", name))["data"]["document"]
    await tenant.patch("secret", name, {"data": {"document": content}})

    async def repaired() -> bool:
        found: str = (await tenant.get("secret", name))["data"]["document"]
        return bool(found == before)

    await eventually(repaired, f"{name} is repaired", seconds=REPAIR_SECONDS)


async def test_a_deleted_pod_is_nobody(tenant: Tenant) -> None:
    """From the moment of its deletion, though its token still passes a TokenReview."""
    pod = await tenant.pod()
    held = await token(tenant, pod)
    hub = Hub(tenant.stack)
    assert (await hub.parts(held, 1))[0].gateway
    async with hub.stream(held) as stream:
        await stream.send_bytes(msgspec.json.encode(Hello([document.FORMAT], 0, {}, None)))
        await tenant.delete("pod", pod["metadata"]["name"], wait=False)
        async with asyncio.timeout(20):
            while (await stream.receive()).type is not aiohttp.WSMsgType.CLOSE:
                pass

    async def refused() -> bool:
        status = await hub.refusal(held)
        return status in (401, 403)

    await eventually(refused, "the token of a deleted pod is refused", seconds=10)

    async def replaced() -> bool:
        return bool((await tenant.pod())["metadata"]["uid"] != pod["metadata"]["uid"])

    await eventually(replaced, "another pod runs", seconds=60)


async def test_a_forged_shard_is_repaired_and_never_enforced(tenant: Tenant) -> None:
    """Edited content, garbage, and an older, genuinely signed version of the same shard."""
    pod = await tenant.pod()
    uid = (await tenant.get("sender", "acme"))["metadata"]["uid"]
    part = str(document.shard_of(uid, 16))
    name = names.document_secret("sms", part)
    key = await tenant.key("acme-shop")
    old = (await tenant.get("secret", name))["data"]["document"]
    await tenant.patch("sender", "acme", {"spec": {"suspend": True}})
    await tenant.ready("sender", "acme")
    assert (await tenant.send(pod, key)).code == "SW2301"
    guard = tenant.guard_pid(pod)
    envelope = document.decode(b64decode(old))
    raised = msgspec.structs.replace(envelope, epoch=envelope.epoch + 1, revision=envelope.revision + 1000)
    forged = msgspec.structs.replace(raised, signature=os.urandom(64))
    for content in (old, *(b64encode(document.encode(e)).decode() for e in (raised, forged)), "eHh4"):
        await _replace_part(tenant, part, content)
        assert (await tenant.send(pod, key)).code == "SW2301"
    assert tenant.guard_pid(pod) == guard
    await tenant.patch("sender", "acme", {"spec": {"suspend": False}})
    await tenant.ready("sender", "acme")
    assert (await tenant.send(pod, key)).status == ACCEPTED


async def test_only_the_guard_sees_document_and_token(tenant: Tenant) -> None:
    """Neither the application nor the proxy has the mounts; the pod's own API token cannot read Secrets."""
    pod = await tenant.pod()
    by_name = {c["name"]: c for c in [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]}
    secret = {names.VOLUME_DOCUMENT, names.VOLUME_TOKEN, names.VOLUME_COUNTERS}
    private = {*secret, names.VOLUME_STATE, names.VOLUME_HUB_CA}
    for name, container in by_name.items():
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert bool(mounted & private) == (name == names.GUARD_CONTAINER), name
    sources = next(v for v in pod["spec"]["volumes"] if v["name"] == names.VOLUME_DOCUMENT)["projected"][
        "sources"
    ]
    assert {s["secret"]["name"] for s in sources} == {
        names.document_secret("sms", part) for part in names.document_parts(16)
    }
    for path in (names.PATH_DOCUMENT, names.PATH_STATE, os.path.dirname(names.PATH_TOKEN), names.PATH_RUN):
        for container in by_name.keys() - {names.GUARD_CONTAINER, names.PROXY_CONTAINER}:
            done = await tenant.stack.runner.execute(
                tenant.namespace, pod["metadata"]["name"], container, "/bin/ls", "-A", path
            )
            assert done.code != 0 or not done.stdout, (container, path, done.stdout)


async def test_pods_of_a_gateway_cannot_borrow_its_volumes(tenant: Tenant) -> None:
    """A volume by one of our names is replaced, and a container of the user's loses its mount."""
    pod = plain_pod(
        "thief",
        [{"name": names.VOLUME_DOCUMENT, "hostPath": {"path": "/"}}],
        [{"name": names.VOLUME_DOCUMENT, "mountPath": "/stolen"}],
    )
    pod["metadata"]["labels"] = {names.LABEL_GATEWAY: "sms"}
    made = json.loads(
        await tenant.stack.kubectl(
            "create",
            "-n",
            tenant.namespace,
            "--dry-run=server",
            "-o",
            "json",
            "-f",
            "-",
            stdin=json.dumps(pod),
        )
    )
    mounts = made["spec"]["containers"][0].get("volumeMounts", [])
    assert not [mount for mount in mounts if mount["name"].startswith(names.VOLUME_PREFIX)]
    assert not [volume for volume in made["spec"]["volumes"] if "hostPath" in volume]
