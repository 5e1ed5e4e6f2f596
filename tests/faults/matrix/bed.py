"""What all runs share: an installation behind tamper proxies, a gateway with one pod, and the kill."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import aiohttp

from sendward import names
from sendward.apply import kinds
from sendward.apply.kube import KubeClient
from sendward.apply.ports import Kind
from sendward.errors import Conflict, NotFound, SendwardError
from tests.faults.matrix import objects
from tests.faults.proxy_calls import Call, Sort
from tests.faults.proxy_lab import Proxies, lab_proxies
from tests.lab.client import Sender
from tests.lab.pods.network import client_namespace
from tests.lab.pods.runner import PodRunner
from tests.lab.servers import Lab
from tests.lab.stack import SYSTEM, Stack, eventually

Object = dict[str, Any]
_SENDER: Final = "10.123.200.77"
_DEPLOYMENT: Final = "deployment/sendward-operator"
_PODS: Final = "app.kubernetes.io/component=operator"
_PROBE: Final = {"name": "operator", "readinessProbe": {"periodSeconds": 1}}


class Bed:
    """See `crash_bed`. `kube` and `vault` speak to the servers themselves, past the proxies."""

    def __init__(
        self,
        stack: Stack,
        proxies: Proxies,
        kube: KubeClient,
        vault: aiohttp.ClientSession,
        senders: tuple[Sender, Sender],
    ) -> None:
        self.stack = stack
        self.ledger = proxies.ledger
        self.kube = kube
        self.senders = senders  # one keeps its connection open, one opens a new one each time
        self.namespace_uid = ""
        self.address = ""  # of the lasting gateway's pod
        self.killed: list[str] = []  # identities, in order
        self.killed_at = 0  # the number of calls in the ledger at the last kill
        self._vault = vault
        self._replicas = 2
        self._clearing: set[asyncio.Task[None]] = set()
        self.ledger.counts = _counts

    # --- objects --------------------------------------------------------------------------------

    async def find(self, kind: Kind, name: str) -> Object | None:
        """An object of the matrix's namespace."""
        try:
            return await self.kube.get(kind, objects.NAMESPACE, name)
        except NotFound:
            return None

    async def vault(self, path: str) -> Object | None:
        """`data` of what Vault answers an administrator; None if there is nothing."""
        async with self._vault.get(f"{self.stack.lab.vault_address}/v1/{path}") as answer:
            return None if answer.status == 404 else (await answer.json())["data"]

    # --- operators ------------------------------------------------------------------------------

    async def holder(self) -> str:
        """Identity in the Lease, "" for none."""
        lease = await self.kube.get(kinds.LEASE, SYSTEM, names.LEASE)
        return str(lease["spec"].get("holderIdentity") or "")

    async def signal_leader(self, number: signal.Signals) -> str:
        """Send a signal to the process that leads; its identity."""

        async def sent() -> str:
            holder = await self.holder()
            pod = holder.split("_", maxsplit=1)[0]
            try:
                os.kill(self.stack.runner.pid_of(SYSTEM, pod, "operator"), number)
            except LookupError:
                return ""  # it ended by itself, for want of CPU time, and the Lease still names it
            return holder

        holder: str = await eventually(sent, "a leader to send a signal to", seconds=30, every=0.02)
        return holder

    async def kill(self, call: Call) -> None:
        """SIGKILL to the leader, as a rule's hook.

        Its Lease is taken from it, which only saves the 6 s until it would run out.
        """
        del call
        holder = await self.signal_leader(signal.SIGKILL)
        self.killed.append(holder)
        self.killed_at = len(self.ledger.calls)
        task = asyncio.create_task(self._take_lease(holder))
        self._clearing.add(task)
        task.add_done_callback(self._clearing.discard)

    async def _take_lease(self, holder: str) -> None:
        while True:
            lease = await self.kube.get(kinds.LEASE, SYSTEM, names.LEASE)
            if lease["spec"].get("holderIdentity") != holder:
                return
            try:
                free = {**lease["spec"], "holderIdentity": ""}
                await self.kube.replace(kinds.LEASE, {**lease, "spec": free})
            except Conflict:
                continue  # a renewal was still under way

    async def led_again(self) -> None:
        """After a kill: another process leads."""
        gone = self.killed[-1]

        async def other() -> bool:
            return await self.holder() not in ("", gone)

        await eventually(other, "another operator leads", seconds=60, every=0.05)

    def guard_connected_since(self, index: int) -> bool:
        """Whether a guard showed its token after that many calls."""
        return any(call.sort is Sort.REVIEW for call in self.ledger.calls[index:])

    async def scale(self, replicas: int) -> None:
        """Set the number of operator processes; they are Ready, and one of them leads."""
        if replicas != self._replicas:
            await self.stack.kubectl("scale", "-n", SYSTEM, _DEPLOYMENT, f"--replicas={replicas}")
            self._replicas = replicas
        await self.whole()

    async def whole(self) -> None:
        """Every operator pod is Ready, and one of them leads: whoever was killed is back."""

        async def led() -> bool:
            pods = await self.stack.ready_pods(SYSTEM, _PODS, self._replicas, seconds=60)
            holder = (await self.holder()).split("_", maxsplit=1)[0]
            return holder in {pod["metadata"]["name"] for pod in pods}

        await eventually(led, "an operator leads", seconds=60)

    async def quiet(self, seconds: float, *, within: float = 60.0) -> None:
        """Until nothing was changed for so long."""
        last, since = -1, 0.0
        clock = asyncio.get_running_loop().time

        def still() -> bool:
            nonlocal last, since
            if self.ledger.numbered != last:
                last, since = self.ledger.numbered, clock()
            return clock() - since >= seconds

        await eventually(still, "the operator comes to rest", seconds=within, every=0.05)


def _counts(call: Call) -> bool:
    """What changes something of the matrix's namespace; Vault holds nothing of any other."""
    return call.sort is Sort.MUTATION and (call.server == "vault" or call.namespace == objects.NAMESPACE)


@asynccontextmanager
async def crash_bed(lab: Lab, say: Callable[[str], None]) -> AsyncIterator[Bed]:
    """Install everything, route the operators through the proxies, bring up the gateway."""
    async with AsyncExitStack() as exits:
        stack = Stack(lab, say)
        stack.runner = PodRunner.of(lab, backoff_cap=0.2)  # an operator is killed some hundred times
        await exits.enter_async_context(stack)
        proxies = await exits.enter_async_context(lab_proxies(lab))
        say("sending the operators through the tamper proxies")
        change = {"spec": {"template": {"spec": {"containers": [_PROBE]}}}}
        await stack.kubectl("patch", "-n", SYSTEM, _DEPLOYMENT, "-p", json.dumps(change))
        await proxies.route(stack)
        kube = KubeClient(lab.apiserver_url, token=lab.admin_token, ca_file=str(lab.ca_file))
        exits.push_async_callback(kube.close)
        tls = ssl.create_default_context(cafile=str(lab.ca_file))
        connector = aiohttp.TCPConnector(ssl=tls)
        headers = {"X-Vault-Token": lab.vault_token}
        vault = await exits.enter_async_context(aiohttp.ClientSession(connector=connector, headers=headers))
        place = await exits.enter_async_context(client_namespace(_SENDER))
        trust = await stack.client_tls()
        senders = (
            Sender(place, trust, "", keep_alive=True),
            Sender(place, trust, "", keep_alive=False),
        )
        for sender in senders:
            exits.push_async_callback(sender.close)
        bed = Bed(stack, proxies, kube, vault, senders)
        say("bringing up the gateway and its pod")
        await stack.onboard(objects.NAMESPACE)
        await stack.apply([objects.gateway(objects.GATEWAY), *objects.policies()])
        bed.address = await create_pod(bed, objects.GATEWAY)
        namespace = await kube.get(kinds.NAMESPACE, None, objects.NAMESPACE)
        bed.namespace_uid = namespace["metadata"]["uid"]
        await bed.quiet(1.0)
        yield bed


async def create_pod(bed: Bed, gateway: str) -> str:
    """A pod of a gateway, Ready; its address. Its certificate must be there first."""

    async def made() -> bool:
        try:
            await bed.kube.create(kinds.POD, objects.gateway_pod(gateway))
        except SendwardError:
            return False  # refused until the operator has declared the gateway
        return True

    await eventually(made, f"the pod of {gateway} is admitted", seconds=60)
    selector = f"{names.LABEL_GATEWAY}={gateway}"
    (pod,) = await bed.stack.ready_pods(objects.NAMESPACE, selector, 1)
    await bed.stack.wait_for("mgw", gateway, objects.NAMESPACE)
    return str(pod["status"]["podIP"])
