"""etcd is restored from a backup, runs out of space, or holds what no schema would let in."""

from __future__ import annotations

import asyncio
import copy
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from sendward import names
from tests.e2e.support import Tenant
from tests.faults.api.support import (
    Backup,
    Etcd,
    Sending,
    epoch,
    fresh_key,
    in_vault,
    led,
    until_answer,
    until_versions,
)
from tests.lab.prerequisites import LabError
from tests.lab.stack import Object, Stack, eventually

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]

ROTATED = [(1, "Previous"), (2, "Current")]
REVOKED = [(1, "Revoked"), (2, "Current")]
LONGER_THAN_A_LEASE = 7.0


@pytest.mark.parametrize("bump", [False, True], ids=["same revisions", "revisions bumped"])
async def test_a_restored_backup_brings_no_key_back_and_loses_none(
    tenant: Tenant, stack: Stack, tmp_path: Path, *, bump: bool
) -> None:
    """Since the backup one key was revoked, one rotated, one deleted. What Vault says of them counts: at
    every instant what ended is refused, and what the senders hold is accepted."""
    kinds = [f"{kind}-{int(bump)}" for kind in ("revoked", "rotated", "deleted")]
    revoked, rotated, deleted = kinds
    old = {name: await fresh_key(tenant, name) for name in kinds}
    backup = Backup(stack, tmp_path / "etcd")
    await backup.take()
    await tenant.patch("akey", revoked, {"spec": {"revokeThrough": 1}})
    await tenant.patch("akey", rotated, {"spec": {"rotateNonce": "1"}})
    await tenant.delete("akey", deleted)
    await until_versions(tenant, revoked, REVOKED)
    await until_versions(tenant, rotated, ROTATED)
    new = {name: await tenant.key(name, 2) for name in (revoked, rotated)}
    pod, before = await tenant.pod(), await epoch(stack)
    async with AsyncExitStack() as exits:
        held = [new[revoked], old[rotated], new[rotated]]
        sending = [
            await exits.enter_async_context(Sending(tenant, pod, key, accepted=key in held))
            for key in [*held, old[revoked], old[deleted]]
        ]
        await backup.restore(bump=bump)
        await led(stack)
        await until_versions(tenant, rotated, ROTATED)
        await until_versions(tenant, revoked, REVOKED)
        await until_versions(tenant, deleted, REVOKED)
        for name in kinds:
            await tenant.ready("akey", name)
    for one in sending:
        one.check()
    assert await in_vault(tenant, revoked) == [2]
    assert await in_vault(tenant, rotated) == [1, 2]
    assert await in_vault(tenant, deleted) == [1]  # the path was deleted, and counts anew
    assert await epoch(stack) >= before
    # It works on: in a new epoch, which the guards take.
    await tenant.patch("akey", rotated, {"spec": {"revokeThrough": 1}})
    await until_answer(tenant, pod, old[rotated], 401)


async def test_while_etcd_has_no_space_nothing_is_half_done(tenant: Tenant, stack: Stack, etcd: Etcd) -> None:
    """A rotation was asked for just before. Nobody can renew the Lease; with space again it is done once."""
    key, pod = await fresh_key(tenant, "full"), await tenant.pod()
    async with Sending(tenant, pod, key) as sending:
        await tenant.patch("akey", "full", {"spec": {"rotateNonce": "1"}})
        etcd.full(full=True)
        with pytest.raises(LabError, match="database space exceeded"):
            await tenant.patch("akey", "full", {"spec": {"rotateNonce": "2"}})
        await asyncio.sleep(LONGER_THAN_A_LEASE)
        etcd.full(full=False)
        await led(stack)
        await until_versions(tenant, "full", ROTATED)
        await tenant.ready("akey", "full")
    sending.check()
    assert await in_vault(tenant, "full") == [1, 2]
    await until_answer(tenant, pod, await tenant.key("full"), 202)


def _spec(**fields: Any) -> Object:
    return {"spec": fields}


# To an object in which a type is wrong the API server lets nobody write, not even a status.
MALFORMED: dict[str, tuple[str, Object, bool]] = {
    "account: gateways is a text": ("senderaccounts", _spec(gateways="sms"), False),
    "account: no spec": ("senderaccounts", {"spec": None}, True),
    "account: not a network": ("senderaccounts", _spec(sourceCIDRs=["nowhere/99"]), True),
    "account: 5,000 sender ids": ("senderaccounts", _spec(senderIDs=[f"A{n}" for n in range(5000)]), True),
    "key: account is a number": ("apikeys", _spec(account=7), False),
    "key: spec is a list": ("apikeys", {"spec": ["account"]}, False),
    "key: a negative version": ("apikeys", _spec(revokeThrough=-1), True),
}


async def test_what_no_schema_would_let_in_denies_its_subject_only(tenant: Tenant, etcd: Etcd) -> None:
    """Written to etcd past the API server: the object's messages are refused, those of its neighbours are
    not, and it is told `Invalid` where the API server takes that; put right, it works again."""
    pod, neighbour = await tenant.pod(), await tenant.key("acme-shop")
    titles = {f"bad-{number}": title for number, title in enumerate(MALFORMED)}
    await tenant.apply(*(obj for name in titles for obj in _account(name)))
    keys, whole = {}, {}
    for name in titles:
        await tenant.ready("akey", name)
        keys[name] = await tenant.key(name)
    async with Sending(tenant, pod, neighbour) as sending:
        for name, title in titles.items():
            plural, change, _ = MALFORMED[title]
            whole[name] = etcd.get(plural, tenant.namespace, name)
            etcd.put(plural, _broken(whole[name], change))
        for name, title in titles.items():
            plural, _, writable = MALFORMED[title]
            await _denied(tenant, pod, keys[name])
            if writable:
                kind = {"senderaccounts": "sender", "apikeys": "akey"}[plural]
                await tenant.until_condition(kind, name, "Accepted", "False", "Invalid")
    sending.check()
    for name, title in titles.items():
        whole[name]["metadata"]["generation"] += 2
        etcd.put(MALFORMED[title][0], whole[name])
    for name in titles:
        await tenant.ready("akey", name)
        await until_answer(tenant, pod, keys[name], 202)


def _account(name: str) -> tuple[Object, Object]:
    head = {"apiVersion": names.API_VERSION, "metadata": {"name": name}}
    account = {"gateways": ["sms"], "policies": {"apiKey": "globex", "rateLimit": "standard"}}
    return (
        {**head, "kind": "SenderAccount", "spec": account},
        {**head, "kind": "APIKey", "spec": {"account": name}},
    )


def _broken(obj: Object, change: Object) -> Object:
    broken = copy.deepcopy(obj)
    if isinstance(change["spec"], dict):
        broken["spec"] |= change["spec"]
    elif change["spec"] is None:
        del broken["spec"]
    else:
        broken["spec"] = change["spec"]
    broken["metadata"]["generation"] += 1
    return broken


async def _denied(tenant: Tenant, pod: Object, key: str) -> None:
    async def check() -> bool:
        return (await tenant.send(pod, key)).status in (401, 403)

    await eventually(check, "refused", seconds=30)
