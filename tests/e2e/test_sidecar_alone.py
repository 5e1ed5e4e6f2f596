"""Pods of a gateway on their own: killed while nobody can help them, drained while a key is revoked, outlived
by their gateway, and in a namespace that ends."""

import asyncio
import json
import os
import signal

import pytest

from sendward import names
from tests.e2e.support import ACCEPTED, GATEWAY, SELECTOR, Record, Tenant, new_tenant, scale_operator
from tests.lab.images import SAMPLE_GATEWAY
from tests.lab.stack import Object, Stack, eventually

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]

SIDECAR = (names.GUARD_CONTAINER, names.PROXY_CONTAINER)
DRAIN_SECONDS = 40  # longer than any revocation takes; the test does not wait for its end


async def until_answer(tenant: Tenant, pod: Object, key: str, *wanted: tuple[int, str]) -> None:
    """Until the pod answers in one of these ways (status, code); a pod that does not answer is waited for."""

    async def check() -> bool:
        try:
            found = await tenant.send(pod, key)
        except OSError:
            return False
        return (found.status, found.code) in wanted

    await eventually(check, f"{pod['metadata']['name']} answers {wanted}", seconds=60, every=0.3)


async def revoke(tenant: Tenant, key: str, through: int) -> None:
    await tenant.patch("akey", key, {"spec": {"revokeThrough": through}})
    await tenant.until_condition("akey", key, "Revoked", "True", seconds=60)
    await tenant.ready("akey", key)


async def test_killed_containers_come_back_without_operator_and_vault(tenant: Tenant, stack: Stack) -> None:
    """Ready again from what lies on their disk; what was revoked before stays refused."""
    pod = await tenant.pod()
    old = await tenant.key("acme-shop")
    await revoke(tenant, "acme-shop", 1)
    new = await tenant.key("acme-shop")
    await scale_operator(stack, 0)
    await asyncio.to_thread(stack.lab.seal_vault)
    try:
        for killed in (SIDECAR[:1], SIDECAR[1:], SIDECAR):
            pids = {
                name: stack.runner.pid_of(tenant.namespace, pod["metadata"]["name"], name) for name in killed
            }
            for pid in pids.values():
                os.kill(pid, signal.SIGKILL)
            await until_answer(tenant, pod, new, (ACCEPTED, ""))
            assert (await tenant.send(pod, old)).code == "SW2205"
            for name, pid in pids.items():
                assert stack.runner.pid_of(tenant.namespace, pod["metadata"]["name"], name) != pid
        assert (await tenant.pod())["metadata"]["uid"] == pod["metadata"]["uid"]
    finally:
        await asyncio.to_thread(stack.lab.unseal_vault)
        await scale_operator(stack, 2)


async def test_a_pod_on_a_drained_node_hears_of_revocations_until_it_ends(
    tenant: Tenant, stack: Stack
) -> None:
    container = {
        "name": "application",
        "image": SAMPLE_GATEWAY,
        "securityContext": {"runAsUser": 1000, "runAsNonRoot": True},
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}},
    }
    name = "draining"
    meta = {"name": name, "labels": {names.LABEL_GATEWAY: GATEWAY}}
    spec = {"containers": [container], "terminationGracePeriodSeconds": DRAIN_SECONDS + 10}
    await tenant.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    pod = next(found for found in await tenant.pods(2) if found["metadata"]["name"] == name)
    key = await tenant.key("globex-main")
    await until_answer(tenant, pod, key, (ACCEPTED, ""))
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    path = f"/api/v1/namespaces/{tenant.namespace}/pods/{name}/eviction"
    await stack.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    assert (await tenant.get("pod", name))["metadata"]["deletionTimestamp"]
    assert (await tenant.send(pod, key)).status == ACCEPTED
    await revoke(tenant, "globex-main", 1)
    await until_answer(tenant, pod, key, (401, "SW2205"))
    assert (await tenant.get("pod", name))["metadata"]["uid"] == pod["metadata"]["uid"]  # draining still
    await until_answer(tenant, await tenant.pod(), await tenant.key("globex-main"), (ACCEPTED, ""))
    await stack.kubectl("delete", "pod", name, "-n", tenant.namespace, "--force", "--grace-period=0")


async def replaced(tenant: Tenant, before: Object) -> Object:
    """The Ready pod that came after another one."""

    async def check() -> Object | None:
        found = await tenant.pod()
        return found if found["metadata"]["uid"] != before["metadata"]["uid"] else None

    found: Object = await eventually(check, "another pod is Ready", seconds=90)
    return found


async def test_pods_of_a_gateway_that_was_replaced_refuse_until_they_are_recreated(
    tenant: Tenant, stack: Stack
) -> None:
    """Deleted with its finalizer forced off, and created again by the same name at once."""
    key = await tenant.key("acme-shop")
    pod = await tenant.pod()
    await until_answer(tenant, pod, key, (ACCEPTED, ""))
    old = (await tenant.get("mgw", "sms"))["metadata"]["uid"]
    await tenant.delete("mgw", "sms", wait=False)
    if await tenant.find("mgw", "sms"):
        await tenant.patch("mgw", "sms", {"metadata": {"finalizers": None}})
    await stack.quickstart(tenant.namespace)
    assert (await tenant.get("mgw", "sms"))["metadata"]["uid"] != old
    await until_answer(tenant, pod, key, (503, "SW2002"), (503, "SW2003"))
    message = await tenant.until_condition("mgw", "sms", "SidecarsInContact", "False", seconds=60)
    assert f"{pod['metadata']['name']}, made for an earlier gateway of this name: recreate it" in message
    assert await tenant.find("networkpolicy", names.network_policy("sms"))
    await stack.kubectl(
        "delete", "pod", pod["metadata"]["name"], "-n", tenant.namespace, "--force", "--grace-period=0"
    )
    fresh = await replaced(tenant, pod)
    await until_answer(tenant, fresh, key, (ACCEPTED, ""))
    await tenant.ready("mgw", "sms")


async def test_a_namespace_ends_with_its_policies_last_and_nothing_left_in_vault(
    stack: Stack, record: Record
) -> None:
    """While a pod of the gateway runs, its NetworkPolicy stands; Kubernetes deletes pods first (1.33)."""
    async with new_tenant(stack, record, address="10.123.204.9", label="ending") as tenant:
        uid = json.loads(await stack.kubectl("get", "namespace", tenant.namespace, "-o", "json"))["metadata"][
            "uid"
        ]
        await tenant.key("acme-shop")
        await record.note(stack, tenant.namespace)
        await record.dump(stack, tenant.namespace)
        assert (await stack.vault_get(f"sendward/metadata/{uid}?list=true"))["data"]["keys"]
        await stack.kubectl("delete", "namespace", tenant.namespace, "--wait=false")

        async def gone() -> bool:
            policy = await tenant.find("networkpolicy", names.network_policy("sms"))
            pods = await stack.kubectl("get", "pods", "-n", tenant.namespace, "-l", SELECTOR, "-o", "name")
            assert policy or not pods, "a pod runs without its NetworkPolicy"
            return not await stack.kubectl(
                "get", "namespace", tenant.namespace, "--ignore-not-found", "-o", "name"
            )

        await eventually(gone, "the namespace is gone", seconds=90)
        assert "data" not in await stack.vault_get(f"sendward/metadata/{uid}?list=true")
