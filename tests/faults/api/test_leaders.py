"""Two operators, of which one may act: what a leader that stood still had under way does not land, and
whoever writes against the leader gets its state back at a bounded price."""

from __future__ import annotations

import asyncio
import os
import signal
from base64 import b64decode
from collections import Counter
from typing import Any

import pytest

from sendward import document, names
from tests.e2e.support import Tenant, operators
from tests.faults.api.support import (
    Foreign,
    Sending,
    epoch,
    fresh_key,
    in_vault,
    led,
    ours,
    pid_of,
    until_answer,
    until_versions,
)
from tests.faults.proxy_calls import Call
from tests.faults.proxy_lab import Proxies
from tests.faults.proxy_rules import Rule, calls_to
from tests.lab.stack import Stack, eventually

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]

ROTATED = [(1, "Previous"), (2, "Current")]


async def rotate(tenant: Tenant, name: str) -> None:
    await tenant.patch("akey", name, {"spec": {"rotateNonce": "1"}})


async def test_two_operators_issue_one_version(tenant: Tenant, stack: Stack, proxies: Proxies) -> None:
    """Both see the same events; of each write there is one."""
    await led(stack)
    await fresh_key(tenant, "one")
    path = (await tenant.get("akey", "one"))["status"]["vaultPath"]
    proxies.ledger.clear()
    await rotate(tenant, "one")
    await until_versions(tenant, "one", ROTATED)
    await tenant.ready("akey", "one")
    done = Counter(str(call) for call in proxies.ledger.mutations if call.name in ("one", path))
    assert done[f"vault POST data {path} 200"] == 1
    assert done[f"kube PATCH apikeys {tenant.namespace}/one/status 200"] <= 2
    assert await in_vault(tenant, "one") == [1, 2]


class Held:
    """The first call that matches waits at the proxy until `release`."""

    def __init__(self, proxies: Proxies, **wanted: Any) -> None:
        self._proxies = proxies
        self._matches = calls_to(**wanted)
        self._gate = asyncio.Event()
        proxies.ledger.rules.append(Rule(self._matches, hold=self._gate))

    @property
    def call(self) -> Call | None:
        return next((call for call in self._proxies.ledger.calls if self._matches(call)), None)

    async def reached(self) -> None:
        await eventually(lambda: self.call, "the call is under way")

    async def release(self) -> int:
        """The server carries it out now; its answer."""
        self._gate.set()
        found: int = await eventually(lambda: self.call and self.call.status, "the late call is answered")
        return found


async def test_what_a_leader_had_under_way_when_it_stood_still_does_not_land(
    tenant: Tenant, stack: Stack, proxies: Proxies
) -> None:
    """It is stopped while a status, a value for Vault and a part of the document are on their way. They
    arrive when another one has led for long, and then it wakes."""
    for name in ("recording", "writing", "storing"):
        await fresh_key(tenant, name)
    old, before = await led(stack), await epoch(stack)
    pid = await pid_of(stack, old)
    path = (await tenant.get("akey", "writing"))["status"]["vaultPath"]
    proxies.ledger.clear()
    status = Held(proxies, kind="apikeys", name="recording", method="PATCH")
    value = Held(proxies, kind="data", name=path, method="POST")
    await rotate(tenant, "recording")
    await status.reached()
    await rotate(tenant, "writing")
    await value.reached()
    part = Held(proxies, kind="secrets", method="PATCH")
    await rotate(tenant, "storing")
    await part.reached()
    os.kill(pid, signal.SIGSTOP)
    try:
        await led(stack, besides=old)
        for name in ("recording", "writing", "storing"):
            await until_versions(tenant, name, ROTATED)
            await tenant.ready("akey", name)
        assert await epoch(stack) > before
        newest = await tenant.key("writing")
        async with Sending(tenant, await tenant.pod(), newest) as sending:
            assert await status.release() == 409
            assert await value.release() == 400
            await part.release()
            os.kill(pid, signal.SIGCONT)
            await eventually(lambda: _other(stack, old, pid), "the one that woke ends", seconds=60)
            await operators(stack)
            assert part.call is not None
            await eventually(lambda: _enforced(tenant, part.call, before), "the part is the new leader's")
    finally:
        if _alive(pid):
            os.kill(pid, signal.SIGCONT)
    sending.check()
    for name in ("recording", "writing", "storing"):
        await until_versions(tenant, name, ROTATED)
        assert await in_vault(tenant, name) == [1, 2]
        for version in (1, 2):
            await until_answer(tenant, await tenant.pod(), await tenant.key(name, version), 202)


def _alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


async def _other(stack: Stack, operator: str, pid: int) -> bool:
    return await pid_of(stack, operator) != pid


async def _enforced(tenant: Tenant, late: Call | None, before: int) -> bool:
    """The Secret that the late call wrote is again one of a later epoch."""
    assert late is not None
    raw = (await tenant.get("secret", late.name))["data"]["document"]
    return bool(document.decode(b64decode(raw)).epoch > before)


SECONDS = 4.0
EVERY = 0.05


async def test_whoever_writes_against_the_operator_costs_a_bounded_number_of_writes(
    tenant: Tenant, stack: Stack, proxies: Proxies
) -> None:
    """Every 50 ms somebody changes a part of the document, the NetworkPolicy, a status and an account."""
    key, pod = await fresh_key(tenant, "disputed"), await tenant.pod()
    await led(stack)
    namespace = f"/api/v1/namespaces/{tenant.namespace}"
    part, policy = names.document_secret("sms", "gateway"), names.network_policy("sms")
    policies = f"/apis/networking.k8s.io/v1/namespaces/{tenant.namespace}/networkpolicies/{policy}"
    before = (await tenant.get("networkpolicy", policy))["spec"]
    proxies.ledger.clear()
    written = 0
    async with Foreign(stack.lab) as foreign, Sending(tenant, pod, key) as sending:
        loop = asyncio.get_running_loop()
        until = loop.time() + SECONDS
        while loop.time() < until:
            written += 1
            await foreign.merge(f"{namespace}/secrets/{part}", {"data": {"document": "eA=="}})
            await foreign.merge(policies, {"spec": {"ingress": [], "podSelector": {}}})
            await foreign.merge(
                ours(tenant, "apikeys", "disputed") + "/status", {"status": {"conditions": []}}
            )
            await foreign.merge(
                ours(tenant, "senderaccounts", "globex"), {"spec": {"displayName": f"{written}"}}
            )
            await asyncio.sleep(EVERY)
        done = Counter(call.kind for call in proxies.ledger.mutations)
        await tenant.ready("akey", "disputed")
        await tenant.ready("sender", "globex")
        await tenant.ready("mgw", "sms")

        async def repaired() -> bool:
            raw = (await tenant.get("secret", part))["data"]["document"]
            now = (await tenant.get("networkpolicy", policy))["spec"]
            return bool(raw != "eA==" and now == before)

        await eventually(repaired, "what was changed is as declared", seconds=20)
    sending.check()
    assert max(done.values()) <= written + 2, (written, done)
    assert await in_vault(tenant, "disputed") == [1]
