"""What a deleted object leaves behind in the operator's memory: nothing.

The operator's whole object graph is walked, so a map that somebody adds later is judged too.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from sendward import names
from sendward.apply import kinds
from sendward.apply.kube import KubeClient
from sendward.protocol import Report
from tests.core.stand import TENANT, Guard, Stand
from tests.core.test_operator import GATEWAY

ROUNDS, ACCOUNTS = 10, 100  # a thousand in all, of which a leak keeps as many
GATEWAYS, NAMESPACES = 100, 50
SLACK = 300  # what comes and goes by itself: pools, histories of bounded length
OURS = ("sendward.", "prometheus_client.", "asyncio.queues")
CONTAINERS = (dict, list, set, tuple, frozenset, deque)


def sizes(root: object) -> Counter[str]:
    """Entries of every container below `root`, by class and attribute; nested ones count together."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    todo: list[tuple[str, object]] = [("", root)]
    while todo:
        place, item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, CONTAINERS):
            found[place] += len(item)
            inside = [*item.keys(), *item.values()] if isinstance(item, dict) else list(item)
            todo += [(f"{place}[]", one) for one in inside]
        elif type(item).__module__.startswith(OURS):
            kind = type(item).__name__
            todo += [(f"{kind}.{name}", value) for name, value in _attributes(item)]
    return found


def _attributes(item: object) -> Iterator[tuple[str, object]]:
    yield from vars(item).items() if hasattr(item, "__dict__") else ()
    for cls in type(item).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if hasattr(item, name):
                yield name, getattr(item, name)


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with Stand() as stand:
        yield stand


async def _create(stand: Stand, prefix: str, count: int) -> None:
    for number in range(count):
        meta = {"namespace": TENANT, "name": f"{prefix}{number}"}
        key = {"account": meta["name"], "policy": "std"}
        stand.kube.put(kinds.SENDER_ACCOUNT, {"metadata": meta, "spec": {"gateways": ["sms"]}})
        stand.kube.put(kinds.API_KEY, {"metadata": meta, "spec": key})
    store = stand.operator.store.group(TENANT)
    await stand.until(lambda: sum(b'"Ready"' in r.status for r in store.keys.values()) == count)
    await stand.until(lambda: sum(b'"Ready"' in r.status for r in store.accounts.values()) == count)


async def _delete(stand: Stand, client: KubeClient) -> None:
    store = stand.operator.store.group(TENANT)
    for kind, records in ((kinds.SENDER_ACCOUNT, store.accounts), (kinds.API_KEY, store.keys)):
        await asyncio.gather(*(client.delete(kind, TENANT, name) for name in list(records)))
    await stand.until(lambda: not store.accounts and not store.keys)


async def _use(stand: Stand, guard: Guard) -> None:
    """The guard reports every version as used, and some that nobody ever issued."""
    steps = stand.operator._steps
    issued = {v.id for account in guard.accounts().values() for key in account.keys for v in key.versions}
    now = int(time.time())
    invented = {uuid.uuid4().hex for _ in range(ACCOUNTS)}
    used = dict.fromkeys(issued | invented, now)
    await guard.report(Report(demand={}, last_used=used))
    [gateway] = stand.operator.store.group(TENANT).uids("MessagingGateway")
    async with asyncio.timeout(30):
        while any(steps._last_used.of(version, {gateway}) is None for version in issued):
            await stand.operator._usage()
            await asyncio.sleep(0.01)


@pytest.fixture
async def client(stand: Stand) -> AsyncIterator[KubeClient]:
    client = KubeClient(stand.kube.url)
    yield client
    await client.close()


async def _resync(stand: Stand) -> None:
    """What happens every ten minutes."""
    await stand.rest(0.5)
    await stand.operator._resync()
    await stand.rest(0.5)


def _left(stand: Stand, before: Counter[str], slack: int) -> dict[str, int]:
    return {place: size for place, size in (sizes(stand.operator) - before).items() if size > slack}


async def _gateway(stand: Stand) -> Guard:
    """A gateway with a guard, used once: everything that is made only once is there."""
    stand.put("MessagingGateway", "sms", GATEWAY)
    rotated: dict[str, Any] = {"rotation": {"every": "30d", "overlap": "1d"}, "handOver": {"type": "Secret"}}
    stand.put("APIKeyPolicy", "std", rotated)
    return await stand.add_guard("sms-0", "sms")


async def test_deleted_accounts_leave_nothing_in_memory(stand: Stand, client: KubeClient) -> None:
    guard = await _gateway(stand)
    await _create(stand, "first-", 3)
    await _delete(stand, client)
    await _resync(stand)
    before = sizes(stand.operator)
    for number in range(ROUNDS):
        await _create(stand, f"round-{number}-", ACCOUNTS)
        await _use(stand, guard)
        if number == 0:
            full = sizes(stand.operator) - before
            assert sum(size >= ACCOUNTS for size in full.values()) > 5  # it is the right place to look
        await _delete(stand, client)
    await _resync(stand)
    assert _left(stand, before, SLACK) == {}


async def test_accounts_that_no_guard_acknowledged_are_forgotten(stand: Stand, client: KubeClient) -> None:
    guard = await _gateway(stand)
    await _create(stand, "first-", 3)
    guard.hold()
    for number in range(20):
        stand.put("SenderAccount", f"a{number}", {"gateways": ["sms"]})
    pending, group = stand.operator._patience._since, stand.operator.store.group(TENANT)
    await stand.until(lambda: len(pending) > 0)
    await asyncio.gather(*(client.delete(kinds.SENDER_ACCOUNT, TENANT, f"a{n}") for n in range(20)))
    await stand.until(lambda: len(group.accounts) == 3)
    await guard.release()
    await _resync(stand)
    assert pending.keys() <= stand.operator.store.uids()


async def test_deleted_gateways_leave_nothing_in_memory(stand: Stand, client: KubeClient) -> None:
    """Nor do their pods; of a gateway that just went its uid is kept until the next time."""
    await _gateway(stand)
    await _create(stand, "first-", 3)
    await _resync(stand)
    before = sizes(stand.operator)
    group = stand.operator.store.group(TENANT)
    for number in range(GATEWAYS):
        name = f"g{number}"
        stand.put("MessagingGateway", name, {**GATEWAY, "shards": 1})
        labels = {names.LABEL_GATEWAY: name}
        stand.kube.put(kinds.POD, {"metadata": {"namespace": TENANT, "name": name, "labels": labels}})
    await stand.until(lambda: sum(b'"Ready"' in r.status for r in group.gateways.values()) == GATEWAYS + 1)
    for number in range(GATEWAYS):
        stand.kube.remove(kinds.POD, TENANT, f"g{number}")
        await client.delete(kinds.MESSAGING_GATEWAY, TENANT, f"g{number}")
    await stand.until(lambda: len(group.gateways) == 1)
    for _ in range(2):
        await _resync(stand)
    assert _left(stand, before, GATEWAYS // 2) == {}


async def test_deleted_namespaces_leave_nothing_in_memory(stand: Stand, client: KubeClient) -> None:
    await _resync(stand)
    before = sizes(stand.operator)
    labels = {names.LABEL_ONBOARDED: "true"}
    for number in range(NAMESPACES):
        stand.kube.put(kinds.NAMESPACE, {"metadata": {"name": f"n{number}", "labels": labels}})
    await stand.until(lambda: len(stand.operator.store.opened) == NAMESPACES + 1)
    for number in range(NAMESPACES):
        stand.kube.put(
            kinds.API_KEY_POLICY, {"metadata": {"namespace": f"n{number}", "name": "p"}, "spec": {}}
        )
    await stand.until(lambda: len(stand.operator.store.uids()) == NAMESPACES)
    for number in range(NAMESPACES):
        stand.kube.remove(kinds.API_KEY_POLICY, f"n{number}", "p")
        stand.kube.remove(kinds.NAMESPACE, "", f"n{number}")
    await stand.until(lambda: len(stand.operator.store.opened) == 1)
    await _resync(stand)
    assert _left(stand, before, NAMESPACES // 2) == {}
