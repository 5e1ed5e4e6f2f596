"""The API server is killed or stands still, for less and for more than a Lease: messages go on, a rotation
that was under way issues one version, and an operator leads again."""

from __future__ import annotations

import asyncio

import pytest

from sendward import names
from tests.e2e.support import Tenant, scale_operator
from tests.faults.api.support import (
    Etcd,
    Sending,
    epoch,
    fresh_key,
    in_vault,
    led,
    paused,
    unlimited,
    until_answer,
    until_versions,
    without_api_server,
)
from tests.lab.servers import APISERVER
from tests.lab.stack import Stack, eventually

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]

ROTATED = [(1, "Previous"), (2, "Current")]
LONGER = 8.0  # seconds; a Lease lasts 6, its holder gives up after 5


async def rotate(tenant: Tenant, name: str) -> None:
    await tenant.patch("akey", name, {"spec": {"rotateNonce": "1"}})


async def settled(tenant: Tenant, name: str) -> None:
    """The rotation is done, once, and an operator leads."""
    await led(tenant.stack)
    await until_versions(tenant, name, ROTATED)
    await tenant.ready("akey", name)
    assert await in_vault(tenant, name) == [1, 2]
    pod = await tenant.pod()
    for version in (1, 2):
        await until_answer(tenant, pod, await tenant.key(name, version), 202)


@pytest.mark.parametrize("seconds", [2.0, LONGER], ids=["for less than the lease", "for longer"])
async def test_an_api_server_that_stands_still(tenant: Tenant, stack: Stack, seconds: float) -> None:
    """In the middle of a rotation. Longer than the Lease nobody leads; then somebody does, in a new epoch."""
    name = f"paused-{seconds:.0f}"
    key = await fresh_key(tenant, name)
    before = await epoch(stack)
    pid = stack.lab.pid(APISERVER)
    assert pid is not None
    async with Sending(tenant, await tenant.pod(), key) as sending:
        await rotate(tenant, name)
        async with paused(pid):
            await asyncio.sleep(seconds)
        await settled(tenant, name)
    sending.check()
    assert seconds < LONGER or await epoch(stack) > before


async def test_an_api_server_that_is_killed_while_objects_vanish(
    tenant: Tenant, stack: Stack, etcd: Etcd
) -> None:
    """In the middle of a rotation. Objects are deleted while nobody can watch, and history is compacted, so
    that every watch meets a 410: the rotation issues one version, and there are no ghosts."""
    pod, key, ghost = await tenant.pod(), await fresh_key(tenant, "killed"), await fresh_key(tenant, "ghost")
    dangling = await tenant.key("acme-shop")
    async with Sending(tenant, pod, key) as sending:
        await rotate(tenant, "killed")
        async with without_api_server(stack):
            etcd.delete("apikeys", tenant.namespace, "ghost")
            etcd.delete("apikeypolicies", tenant.namespace, "standard")
            etcd.compact()
        await settled(tenant, "killed")
        await until_answer(tenant, pod, ghost, 401)
        await tenant.until_condition("akey", "acme-shop", "ResolvedRefs", "False")
        await until_answer(tenant, pod, dangling, 403)
    sending.check()
    await stack.quickstart(tenant.namespace)
    await unlimited(tenant)
    await tenant.ready("akey", "acme-shop")
    await until_answer(tenant, pod, dangling, 202)


async def test_a_key_is_released_by_hand_while_no_operator_runs(tenant: Tenant, stack: Stack) -> None:
    """Its finalizer holds a deleted key. Who removes it by hand lets it go; it is refused, and gone from
    Vault, as soon as an operator is back."""
    key, pod = await fresh_key(tenant, "released"), await tenant.pod()
    uid, space = (await tenant.get("akey", "released"))["status"]["vaultPath"].split("/")[::-1]
    await scale_operator(stack, 0)
    try:
        await tenant.delete("akey", "released", wait=False)
        held = (await tenant.get("akey", "released"))["metadata"]
        assert held["finalizers"] == [names.FINALIZER]
        assert held["deletionTimestamp"]
        await tenant.patch("akey", "released", {"metadata": {"finalizers": None}})
        assert await tenant.find("akey", "released") is None
        await until_answer(tenant, pod, key, 202)
    finally:
        await scale_operator(stack, 2)
    await until_answer(tenant, pod, key, 401)

    async def swept() -> bool:
        found = await stack.vault_get(f"sendward/metadata/{space}?list=true")
        return uid not in found["data"]["keys"]

    await eventually(swept, "nothing of it is in Vault", seconds=60)
