"""The fault table of the sidecar, seen on the running stack: guard dead, hub unreachable, document
missing, application exposed, certificates swapped, one gateway broken, the leader gone."""

import asyncio
import json
import os
import signal
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cryptography import x509

from sendward import document, names
from tests.e2e.support import ACCEPTED, PORT, Tenant, answer, metric, operators, request, scale_operator
from tests.lab.stack import SYSTEM, Object, Stack, eventually

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]

FAIL_OVER_SECONDS = 15.0


async def get(tenant: Tenant, pod: Object, port: int, path: str) -> bytes:
    """The body of a plain HTTP answer from one of the sidecar's own ports."""
    reader, writer = await tenant.client.open_connection(pod["status"]["podIP"], port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    found = await answer(reader)
    writer.close()
    return found.body


async def guard_metric(tenant: Tenant, pod: Object, name: str) -> float:
    value = metric((await get(tenant, pod, names.PORT_METRICS, "/metrics/guard")).decode(), name)
    assert value is not None, name
    return value


async def readiness(tenant: Tenant, pod: Object) -> list[str]:
    """Why the guard says that its pod is not ready."""
    try:
        found: list[str] = json.loads(await get(tenant, pod, names.PORT_PROBE, "/ready"))["reasons"]
    except (OSError, ValueError):
        return []
    return found


async def started_pod(tenant: Tenant, gateway: str, besides: str = "") -> Object:
    """A pod of the gateway that has an address, Ready or not."""

    async def check() -> Object | None:
        for pod in await tenant.stack.pods(tenant.namespace, f"{names.LABEL_GATEWAY}={gateway}"):
            if pod["metadata"]["uid"] != besides and pod.get("status", {}).get("podIP"):
                return pod
        return None

    found: Object = await eventually(check, f"a pod of {gateway} runs")
    return found


async def accepted(tenant: Tenant, pod: Object, key: str) -> None:
    async def check() -> bool:
        return (await tenant.send(pod, key)).status == ACCEPTED

    await eventually(check, "messages are accepted", seconds=60, every=0.3)


async def test_a_dead_guard_refuses_and_comes_back_without_the_operator(tenant: Tenant, stack: Stack) -> None:
    """Envoy answers 503 while nobody can judge; the new guard serves what lies on its disk."""
    pod = await tenant.pod()
    key = await tenant.key("globex-main")
    await scale_operator(stack, 0)
    try:
        reader, writer = await tenant.connect(pod)
        writer.write(request(key=key))
        assert (await answer(reader)).status == ACCEPTED
        before = tenant.guard_pid(pod)
        os.kill(before, signal.SIGKILL)
        writer.write(request(key=key))
        refused = await answer(reader)
        assert (refused.status, refused.code) == (503, "SW2911")
        await accepted(tenant, pod, key)
        assert tenant.guard_pid(pod) != before

        async def served() -> bool:  # its buckets start empty
            writer.write(request(key=key))
            return (await answer(reader)).status == ACCEPTED

        await eventually(served, "the open connection is served again", seconds=30, every=0.3)
        writer.close()
    finally:
        await scale_operator(stack, 2)


@asynccontextmanager
async def cut_off(stack: Stack, tenant: Tenant, pod: Object) -> AsyncIterator[None]:
    """The pod cannot reach any operator pod."""
    network = stack.runner.network_of(tenant.namespace, pod["metadata"]["name"])
    addresses = [operator["status"]["podIP"] for operator in await operators(stack)]
    for address in addresses:
        await network.cut(address)
    try:
        yield
    finally:
        for address in addresses:
            await network.restore(address)


async def test_a_sidecar_without_hub_goes_on_and_is_waited_for(tenant: Tenant, stack: Stack) -> None:
    """Traffic and limits go on, a metric tells the age; a revocation is not called done before it is."""
    pod = await tenant.pod()
    key = await tenant.key("acme-shop")
    await accepted(tenant, pod, key)
    await in_contact(tenant, pod, 1)
    async with cut_off(stack, tenant, pod):
        await in_contact(tenant, pod, 0)
        assert (await tenant.send(pod, key)).status == ACCEPTED
        first = await guard_metric(tenant, pod, "sendward_guard_document_age_seconds")
        await tenant.patch("akey", "acme-shop", {"spec": {"revokeThrough": 1}})
        await tenant.until_condition("akey", "acme-shop", "Revoked", "False", "RevocationPending")
        # The Secret is mounted, so the guard follows it; only its word is missing.
        await refused(tenant, pod, key)
        assert (await tenant.condition("akey", "acme-shop", "Revoked"))[:2] == ("False", "RevocationPending")
        assert await guard_metric(tenant, pod, "sendward_guard_document_age_seconds") > first
        said = await tenant.until_condition("mgw", "sms", "SidecarsInContact", "False", seconds=60)
        assert pod["metadata"]["name"] in said
        assert await guard_metric(tenant, pod, "sendward_guard_shares_unsynced") == 0
        await _limited(tenant, pod)
        assert (await tenant.pod())["metadata"]["uid"] == pod["metadata"]["uid"]
    await tenant.until_condition("akey", "acme-shop", "Revoked", "True", "Revoked", seconds=60)
    await tenant.until_condition("mgw", "sms", "SidecarsInContact", "True")
    await tenant.ready("akey", "acme-shop")
    await accepted(tenant, pod, await tenant.key("acme-shop"))


async def in_contact(tenant: Tenant, pod: Object, wanted: int) -> None:
    """Until the guard has the hub and its shares from it (1), or has noticed that it is alone (0)."""

    async def check() -> bool:
        connected = await guard_metric(tenant, pod, "sendward_guard_hub_connected")
        synced = not await guard_metric(tenant, pod, "sendward_guard_shares_unsynced")
        return connected == wanted and (synced or not wanted)

    await eventually(check, f"sendward_guard_hub_connected is {wanted}", seconds=60)


async def refused(tenant: Tenant, pod: Object, key: str) -> None:
    async def check() -> bool:
        found = await tenant.send(pod, key)
        return found.status == 401

    await eventually(check, "the key is refused", seconds=30, every=0.3)


async def _limited(tenant: Tenant, pod: Object) -> None:
    """With its last share the guard still limits: 30 messages in 10 s are the account's, 20 a key's."""
    key = await tenant.key("globex-main")
    answers = [(await tenant.send(pod, key)) for _ in range(45)]
    throttled = [found for found in answers if found.status == 429]
    assert throttled
    assert int(throttled[0].headers["retry-after"]) >= 1
    assert {found.status for found in answers} <= {ACCEPTED, 429}


async def test_a_pod_without_document_refuses(tenant: Tenant, stack: Stack) -> None:
    """No document Secret and no operator: the pod starts, is not Ready, and lets nothing through."""
    old = await tenant.pod()
    key = await tenant.key("globex-main")
    await scale_operator(stack, 0)
    try:
        selector = f"{names.LABEL_PART}=document"
        await stack.kubectl("delete", "secrets", "-n", tenant.namespace, "-l", selector)
        await tenant.delete("pod", old["metadata"]["name"], wait=False)
        pod = await started_pod(tenant, "sms", besides=old["metadata"]["uid"])
        reasons = await eventually(lambda: readiness(tenant, pod), "the guard says why it is not ready")
        assert reasons == ["NoDocument"]
        with pytest.raises(ConnectionRefusedError):
            await tenant.connect(pod)
    finally:
        await scale_operator(stack, 2)
    await accepted(tenant, await tenant.pod(), key)
    for part in names.document_parts(16):
        assert await tenant.find("secret", names.document_secret("sms", part))


def gateway(name: str, **changes: Any) -> Object:
    """A second gateway beside the quickstart's."""
    operation = {
        "name": "send", "method": "POST", "path": "/v1/messages",
        "message": {
            "recipient": {"jsonPointer": "/to"}, "senderID": {"jsonPointer": "/from"},
            "text": {"jsonPointer": "/text"},
        },
    }  # fmt: skip
    spec = {
        "http": {"port": PORT, "applicationPort": 8080, "operations": [operation]},
        "tls": {"vaultPKI": {"dnsNames": ["sms.quickstart.example"]}},
        "sourceCIDRs": ["10.0.0.0/8"],
        **changes,
    }
    meta = {"name": name}
    return {"apiVersion": names.API_VERSION, "kind": "MessagingGateway", "metadata": meta, "spec": spec}


async def remove_gateway(tenant: Tenant, name: str) -> None:
    await tenant.delete("deployment", name)
    await tenant.delete("mgw", name)


async def test_an_application_that_listens_beyond_loopback_is_never_ready(tenant: Tenant) -> None:
    """Until the gateway says that it relies on the NetworkPolicy."""
    await tenant.apply(gateway("open"))
    await tenant.stack.deploy_gateway(
        tenant.namespace, "open", replicas=1, arguments=("--listen", "0.0.0.0:8080")
    )
    pod = await started_pod(tenant, "open")

    async def exposed() -> bool:
        return await readiness(tenant, pod) == ["ApplicationExposed"]

    await eventually(exposed, "the pod is not ready for this reason alone")
    await tenant.until_condition("mgw", "open", "Programmed", "False", "NoSidecars")
    shown = (await tenant.get("pod", pod["metadata"]["name"]))["status"]["conditions"]
    assert {c["type"]: c["status"] for c in shown}["Ready"] == "False"
    await tenant.patch("mgw", "open", {"spec": {"applicationExposure": "RelyOnNetworkPolicy"}})
    await tenant.pod("open")
    await tenant.ready("mgw", "open")
    await remove_gateway(tenant, "open")


def serial(writer: asyncio.StreamWriter) -> int:
    """Serial number of the certificate that the server showed."""
    der: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(der).serial_number


async def tls_secret(tenant: Tenant, name: str, number: int) -> Object:
    """A kubernetes.io/tls Secret as cert-manager would write it."""
    pair = await asyncio.to_thread(
        tenant.stack.lab.ca.issue, f"e2e-{number}", "own", names=("sms.quickstart.example",)
    )
    files = {"tls.crt": pair.certificate, "tls.key": pair.key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": name},
        "data": {k: b64encode(path.read_bytes()).decode() for k, path in files.items()},
    }


async def new_serial(tenant: Tenant, pod: Object, old: int) -> int:
    async def check() -> int:
        _, writer = await tenant.connect(pod)
        found = serial(writer)
        writer.close()
        return found if found != old else 0

    found: int = await eventually(check, "new connections get the new certificate", seconds=40)
    return found


async def test_a_certificate_of_the_users_is_swapped_under_open_connections(tenant: Tenant) -> None:
    await tenant.apply(gateway("own", tls={"secretName": "own-tls"}))
    message = await tenant.until_condition("mgw", "own", "ResolvedRefs", "False", "NotFound")
    assert "Secret own-tls" in message
    await tenant.apply(await tls_secret(tenant, "own-tls", 1))
    await tenant.stack.deploy_gateway(tenant.namespace, "own", replicas=1)
    tenant.tls.load_verify_locations(cafile=str(tenant.stack.lab.ca_file))
    pod = await tenant.pod("own")
    await tenant.patch("sender", "globex", {"spec": {"gateways": ["sms", "own"]}})
    key = await tenant.key("globex-main")
    await accepted(tenant, pod, key)
    reader, writer = await tenant.connect(pod)
    await tenant.apply(await tls_secret(tenant, "own-tls", 2))
    await new_serial(tenant, pod, serial(writer))
    writer.write(request(key=key))
    assert (await answer(reader)).status == ACCEPTED
    writer.close()
    await tenant.patch("sender", "globex", {"spec": {"gateways": ["sms"]}})
    await remove_gateway(tenant, "own")
    await tenant.ready("sender", "globex")


async def test_a_certificate_of_vault_is_swapped_under_open_connections(tenant: Tenant) -> None:
    """Another name asked for: another certificate, in the same pods."""
    pod = await tenant.pod()
    key = await tenant.key("globex-main")
    await accepted(tenant, pod, key)
    reader, writer = await tenant.connect(pod)
    dns = ["sms.quickstart.example", "second.quickstart.example"]
    await tenant.patch("mgw", "sms", {"spec": {"tls": {"vaultPKI": {"dnsNames": dns}}}})
    await new_serial(tenant, pod, serial(writer))
    writer.write(request(key=key))
    assert (await answer(reader)).status == ACCEPTED
    writer.close()
    assert (await tenant.pod())["metadata"]["uid"] == pod["metadata"]["uid"]


async def test_a_broken_gateway_disturbs_no_other(tenant: Tenant) -> None:
    """Its reference dangles; the neighbour in the same namespace takes changes as before."""
    await tenant.apply(gateway("broken", tls={"secretName": "nowhere"}))
    await tenant.until_condition("mgw", "broken", "ResolvedRefs", "False", "NotFound")
    pod, key = await tenant.pod(), await tenant.key("globex-main")
    for suspend, status in ((True, 403), (False, ACCEPTED)):
        await tenant.patch("sender", "globex", {"spec": {"suspend": suspend}})
        await tenant.ready("sender", "globex")
        assert (await tenant.send(pod, key)).status == status
    assert (await tenant.condition("mgw", "sms", "Ready"))[0] == "True"
    await tenant.delete("mgw", "broken")


async def test_another_operator_takes_over(tenant: Tenant, stack: Stack) -> None:
    """Within 15 s, in a higher epoch, without a status that flaps."""
    await operators(stack)
    pod, key = await tenant.pod(), await tenant.key("globex-main")
    leader = await stack.leader()
    before = (await stack.get("lease", names.LEASE, SYSTEM))["spec"]
    statuses = await _statuses(tenant)
    versions = [obj["metadata"]["resourceVersion"] for obj in await _objects(tenant)]
    await stack.kubectl("delete", "pod", leader, "-n", SYSTEM, "--wait=false")

    async def taken_over() -> bool:
        return await stack.leader() not in ("", leader)

    await eventually(taken_over, "another operator leads", seconds=FAIL_OVER_SECONDS)
    after = (await stack.get("lease", names.LEASE, SYSTEM))["spec"]
    assert after["leaseTransitions"] > before["leaseTransitions"]
    await tenant.patch("sender", "globex", {"spec": {"suspend": True}})
    await tenant.ready("sender", "globex")
    assert (await tenant.send(pod, key)).code == "SW2301"
    uid = (await tenant.get("sender", "globex"))["metadata"]["uid"]
    part = names.document_secret("sms", str(document.shard_of(uid, 16)))
    assert await _epoch(tenant, part) == after["leaseTransitions"]
    await tenant.patch("sender", "globex", {"spec": {"suspend": False}})
    await tenant.ready("sender", "globex")
    await operators(stack)
    now = await _statuses(tenant)
    assert {name: status for name, status in now.items() if status != statuses[name]} == {}
    unchanged = [obj["metadata"]["resourceVersion"] for obj in await _objects(tenant)]
    assert sum(a != b for a, b in zip(versions, unchanged, strict=True)) <= 1 + len(await _keys(tenant))


async def _epoch(tenant: Tenant, secret: str) -> int:
    raw = b64decode((await tenant.get("secret", secret))["data"]["document"])
    return document.decode(raw).epoch


async def _objects(tenant: Tenant) -> list[Object]:
    found = await tenant.stack.listing("sendward", tenant.namespace)
    return sorted(found, key=lambda obj: (obj["kind"], obj["metadata"]["name"]))


async def _keys(tenant: Tenant) -> list[Object]:
    return [obj for obj in await _objects(tenant) if obj["spec"].get("account") == "globex"]


async def _statuses(tenant: Tenant) -> dict[str, list[tuple[str, str, str]]]:
    """Of each object its conditions with the time of their last change."""
    return {
        f"{obj['kind']}/{obj['metadata']['name']}": sorted(
            (c["type"], c["status"], c["lastTransitionTime"]) for c in obj["status"]["conditions"]
        )
        for obj in await _objects(tenant)
    }
