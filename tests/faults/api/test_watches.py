"""The watches of the real API server through a proxy that drops, doubles, swaps, holds and ends them."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass

import pytest
import yaml

from sendward import names
from tests.e2e.support import ACCEPTED, GATEWAY, Tenant
from tests.faults.api.support import (
    SECONDS,
    Foreign,
    Sending,
    epoch,
    fresh_key,
    in_vault,
    led,
    ours,
    unlimited,
    until_answer,
    until_versions,
)
from tests.faults.proxy_calls import Sort
from tests.faults.proxy_lab import Proxies
from tests.faults.proxy_rules import Event, Rule, WatchRule, calls_to
from tests.lab.stack import QUICKSTART, Object, Stack, eventually

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]

ROTATED = [(1, "Previous"), (2, "Current")]
CODES = (410, 500, 403)

MANY = [{"messages": 1_000_000, "per": "1s"}]
FEW = [{"messages": 1, "per": "1h"}]
SEND, *OTHERS = yaml.safe_load((QUICKSTART / "gateway.yaml").read_text())["spec"]["http"]["operations"]


@dataclass(frozen=True)
class Edit:
    """A change of an object by which messages are answered with `status`, and what takes it back."""

    name: str  # empty: that of the key that sends
    refuse: Object
    status: int
    accept: Object


EDITS = {  # by plural; the first is followed by our own informer, the others by kopf
    "apikeys": Edit("", {"operations": ["status"]}, 403, {"operations": None}),
    "apikeypolicies": Edit("globex", {"operations": ["status"]}, 403, {"operations": None}),
    "ratelimitpolicies": Edit("standard", {"key": FEW}, 429, {"key": MANY}),
    "messaginggateways": Edit(
        GATEWAY,
        {"http": {"operations": [{**SEND, "method": "PUT"}, *OTHERS]}},
        405,
        {"http": {"operations": [SEND, *OTHERS]}},
    ),
}


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


async def lose(tenant: Tenant, proxies: Proxies, kind: str, name: str, spec: Object) -> None:
    """Change an object, and keep it from both operators' watches."""

    def watches() -> int:
        return sum(stream.call.kind == kind for stream in proxies.kube.streams)

    def generation(event: Event) -> int:
        found: int = json.loads(event.line)["object"]["metadata"]["generation"]
        return found

    def drops(event: Event) -> bool:
        lost.extend([generation(event)] * ((event.kind, event.name) == (kind, name)))
        return (event.kind, event.name) == (kind, name)

    lost: list[int] = []
    await eventually(lambda: watches() == 2, f"both operators watch {kind}", seconds=SECONDS)
    proxies.ledger.watch_rules.append(WatchRule(drops, act="drop", times=None))
    await tenant.patch(kind, name, {"spec": spec})
    changed = (await tenant.get(kind, name))["metadata"]["generation"]
    await eventually(lambda: lost.count(changed) >= 2, f"both watches of {kind} lost the change", every=0.01)
    proxies.ledger.watch_rules.clear()


async def changed_while_broken(
    tenant: Tenant, proxies: Proxies, kind: str, *, failing: str, code: int
) -> None:
    """A change that the watches of its kind did not tell is enforced after an ERROR in those of `failing`;
    so is the next one. The same process leads on.
    """
    edit, before = EDITS[kind], await epoch(tenant.stack)
    pod, sender = await tenant.pod(), f"{kind}-{failing}-{code}"
    key = await fresh_key(tenant, sender)
    name = edit.name or sender
    await until_sent(tenant, pod, key, ACCEPTED)
    await lose(tenant, proxies, kind, name, edit.refuse)
    assert proxies.kube.send_error(code, failing) >= 2
    await until_sent(tenant, pod, key, edit.status)
    await tenant.patch(kind, name, {"spec": edit.accept})
    await until_sent(tenant, pod, key, ACCEPTED)
    assert await epoch(tenant.stack) == before


async def until_sent(tenant: Tenant, pod: Object, key: str, status: int) -> None:
    async def check() -> bool:
        return (await tenant.send(pod, key)).status == status

    await eventually(check, f"answer {status}", seconds=SECONDS)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("kind", EDITS)
async def test_a_change_that_a_watch_lost_is_enforced_when_that_watch_ends_with_an_error(
    tenant: Tenant, stack: Stack, proxies: Proxies, kind: str, code: int
) -> None:
    """An ERROR within the stream, of each sort of watch; what is changed afterwards is followed as well."""
    await led(stack)
    await changed_while_broken(tenant, proxies, kind, failing=kind, code=code)


@pytest.mark.parametrize("kind", [kind for kind in EDITS if kind != "apikeys"])
async def test_a_change_that_a_watch_lost_in_silence_is_enforced_when_a_watch_of_ours_fails(
    tenant: Tenant, stack: Stack, proxies: Proxies, kind: str
) -> None:
    """Nobody notices the loss itself; without any failure it is found by the listing every ten minutes."""
    await led(stack)
    await changed_while_broken(tenant, proxies, kind, failing="apikeys", code=500)


async def test_the_only_object_of_a_kind_that_vanished_unseen_is_missed(
    tenant: Tenant, stack: Stack, proxies: Proxies
) -> None:
    """After a 410 the list of kopf is empty then, and it says nothing: the next minute's listing does."""
    await led(stack)
    lost: list[str] = []

    def drops(event: Event) -> bool:
        hit = (event.kind, event.name) == ("ratelimitpolicies", "standard")
        lost.extend([event.type] * hit)
        return hit

    proxies.ledger.watch_rules.append(WatchRule(drops, act="drop", times=None))
    await tenant.delete("mrl", "standard")
    await eventually(lambda: lost.count("DELETED") >= 2, "both watches lost the deletion", every=0.01)
    proxies.ledger.watch_rules.clear()
    assert proxies.kube.send_error(410, "ratelimitpolicies") >= 2
    await tenant.until_condition("sender", "globex", "ResolvedRefs", "False", "NotFound", seconds=SECONDS)
    await stack.kubectl("apply", "-n", tenant.namespace, "-f", str(QUICKSTART / "policies.yaml"))
    await unlimited(tenant)


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
