"""The watches of the real API server through a proxy that drops, doubles, swaps, holds and ends them."""

from __future__ import annotations

import asyncio
import time

import pytest

from sendward import names
from tests.e2e.support import Tenant
from tests.faults.api.support import (
    Foreign,
    Sending,
    fresh_key,
    in_vault,
    led,
    ours,
    until_answer,
    until_versions,
)
from tests.faults.proxy_calls import Sort
from tests.faults.proxy_lab import Proxies
from tests.faults.proxy_rules import Rule, WatchRule, calls_to
from tests.lab.stack import Stack, eventually

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]

ROTATED = [(1, "Previous"), (2, "Current")]
CODES = (410, 500, 403)


async def rotate(tenant: Tenant, name: str) -> None:
    await tenant.patch("akey", name, {"spec": {"rotateNonce": "1"}})


async def test_an_event_that_was_dropped_is_made_good_when_the_watch_begins_anew(
    tenant: Tenant, stack: Stack, proxies: Proxies
) -> None:
    """By an ERROR within the stream, or by a refusal of the next one."""
    await led(stack)
    for code in CODES:
        name = f"dropped-{code}"
        await fresh_key(tenant, name)
        drop = WatchRule(lambda event, name=name: event.name == name, act="drop", times=None)  # type: ignore[misc]
        proxies.ledger.watch_rules.append(drop)
        await rotate(tenant, name)
        await fresh_key(tenant, f"seen-{code}")  # the watch goes on behind it
        proxies.ledger.watch_rules.clear()
        refused = Rule(calls_to("apikeys", method="GET", sort=Sort.WATCH), times=2, answer=code)
        proxies.ledger.rules.append(refused)
        assert proxies.kube.send_error(410, "apikeys") > 0
        await until_versions(tenant, name, ROTATED)
        proxies.ledger.rules.clear()
    assert [await in_vault(tenant, f"dropped-{code}") for code in CODES] == [[1, 2]] * len(CODES)


async def test_events_that_come_twice_or_in_the_wrong_order_change_nothing(
    tenant: Tenant, stack: Stack, proxies: Proxies
) -> None:
    keys = {act: await fresh_key(tenant, f"{act}-events") for act in ("double", "swap")}
    await led(stack)
    for act, key in keys.items():
        proxies.ledger.watch_rules.append(WatchRule(lambda _: True, act=act, times=None))  # type: ignore[arg-type]
        async with Sending(tenant, await tenant.pod(), key) as sending:
            await rotate(tenant, f"{act}-events")
            await tenant.patch("sender", "globex", {"spec": {"displayName": act}})
            if act == "swap":  # an event waits for the next one
                proxies.ledger.watch_rules.clear()
                await tenant.patch("akey", f"{act}-events", {"metadata": {"labels": {"next": "one"}}})
            await until_versions(tenant, f"{act}-events", ROTATED)
        sending.check()
        proxies.ledger.watch_rules.clear()
        assert await in_vault(tenant, f"{act}-events") == [1, 2]
    await tenant.ready("sender", "globex")


async def test_a_late_watch_rotates_once(tenant: Tenant, stack: Stack, proxies: Proxies) -> None:
    """From the first write of a rotation on nothing is told for a while, and each call passes."""
    key = await fresh_key(tenant, "late")
    await led(stack)
    gate = asyncio.Event()
    hold = WatchRule(lambda event: event.kind == "apikeys", times=None, hold=gate)
    proxies.ledger.clear()
    async with Sending(tenant, await tenant.pod(), key) as sending:
        await rotate(tenant, "late")
        await eventually(lambda: proxies.ledger.mutations, "the rotation is under way", every=0.01)
        proxies.ledger.watch_rules.append(hold)
        await until_versions(tenant, "late", ROTATED)
        await tenant.patch("akey", "late", {"spec": {"rotateNonce": "2"}})
        before = len(proxies.ledger.mutations)
        await asyncio.sleep(3)
        assert len(proxies.ledger.mutations) - before < 20
        gate.set()
        proxies.ledger.watch_rules.clear()
        await until_versions(tenant, "late", ROTATED)
    sending.check()
    assert await in_vault(tenant, "late") == [1, 2]


async def test_a_name_that_is_taken_again_within_50_ms_is_another_key(tenant: Tenant, stack: Stack) -> None:
    """Create, delete, create: one version of the one that stands, and nothing of the other one in Vault."""
    pod, head = await tenant.pod(), {"apiVersion": names.API_VERSION, "metadata": {"name": "twice"}}
    account = {
        **head,
        "kind": "SenderAccount",
        "spec": {"gateways": ["sms"], "policies": {"apiKey": "globex"}},
    }
    key = {**head, "kind": "APIKey", "spec": {"account": "twice"}}
    uids = []
    async with Foreign(stack.lab) as foreign:
        began = time.monotonic()
        for number in range(2):
            await foreign.create(ours(tenant, "senderaccounts"), account)
            uids.append((await foreign.create(ours(tenant, "apikeys"), key))["metadata"]["uid"])
            if not number:
                await foreign.delete(ours(tenant, "apikeys", "twice"))
                await foreign.delete(ours(tenant, "senderaccounts", "twice"))
        assert time.monotonic() - began < 2
    await tenant.ready("akey", "twice")
    await until_versions(tenant, "twice", [(1, "Current")])
    await until_answer(tenant, pod, await tenant.key("twice"), 202)
    space = (await tenant.get("akey", "twice"))["status"]["vaultPath"].split("/")[0]
    held = (await stack.vault_get(f"sendward/metadata/{space}?list=true"))["data"]["keys"]
    assert [uid in held for uid in uids] == [False, True]
