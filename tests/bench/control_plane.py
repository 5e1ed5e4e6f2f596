"""The operator on real servers: one installation a run, with one gateway pod that acknowledges.

Counts come from the operator's own counters, CPU and memory from /proc. Everything shares one machine:
API server, etcd with fsync, Vault, operator, gateway and this client.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import aiohttp

from sendward.apply import kinds
from sendward.apply.kube import KubeClient
from tests.bench import counters, machine, resources
from tests.bench.client import Probe, VaultReader
from tests.bench.counters import Counters
from tests.bench.figures import Figure, figure, percentile
from tests.bench.ready import Ready
from tests.lab.images import REPOSITORY
from tests.lab.servers import Lab
from tests.lab.stack import SYSTEM, Stack, eventually

_REQUESTS_AT_ONCE: Final = 16
_QUIET_SECONDS: Final = 3.0  # counters that stand still for so long have settled
_POLL_SECONDS: Final = 0.005

T = TypeVar("T")
Say = Callable[[str], None]
LOGS: Final = REPOSITORY / "build" / "bench" / "logs"


@dataclass(frozen=True)
class Plan:
    """How much is measured at one number of accounts."""

    accounts: int
    singles: int = 100  # new accounts, and revocations
    idle_seconds: float = 60.0


async def _several_at_once(names: Iterable[str], one: Callable[[str], Awaitable[None]]) -> None:
    waiting = iter(names)

    async def work() -> None:
        for name in waiting:
            await one(name)

    async with asyncio.TaskGroup() as group:
        for _ in range(_REQUESTS_AT_ONCE):
            group.create_task(work())


@dataclass
class _Bench:
    """The running installation."""

    stack: Stack
    kube: KubeClient
    session: aiohttp.ClientSession
    vault: VaultReader
    ready: Ready
    gateway_address: str
    probe: Callable[[], Awaitable[Probe]]
    say: Say
    operator: str = ""
    address: str = ""

    async def find_operator(self, *, besides: str = "") -> None:
        """The one operator pod that is there, has an address, and is not the named one."""

        async def look() -> bool:
            pods = await self.stack.pods(SYSTEM, "app.kubernetes.io/component=operator")
            found = [pod for pod in pods if pod["metadata"]["name"] != besides]
            if len(pods) != 1 or not found or not found[0].get("status", {}).get("podIP"):
                return False
            self.operator = found[0]["metadata"]["name"]
            self.address = found[0]["status"]["podIP"]
            return True

        await eventually(look, "one operator pod", every=0.05)

    @property
    def pid(self) -> int:
        return self.stack.runner.pid_of(SYSTEM, self.operator, "operator")

    async def counted(self) -> Counters:
        return await counters.scrape(self.session, self.address)

    async def settled(self, seconds: float = 120.0) -> Counters:
        """The counters once they have stood still for a while."""
        last, since = await self.counted(), time.monotonic()
        deadline = since + seconds
        while time.monotonic() - since < _QUIET_SECONDS:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the operator does not come to rest: {last.text()}")
            await asyncio.sleep(0.5)
            found = await self.counted()
            if (found.requests, found.vault_calls) != (last.requests, last.vault_calls):
                last, since = found, time.monotonic()
        return last

    async def create(self, names: Iterable[str]) -> None:
        """Accounts and keys, several at once."""

        async def one(name: str) -> None:
            await self.kube.create(kinds.SENDER_ACCOUNT, resources.account(name))
            await self.kube.create(kinds.API_KEY, resources.key(name))

        await _several_at_once(names, one)


@asynccontextmanager
async def _installed(say: Say) -> AsyncIterator[_Bench]:
    """Servers, operator and gateway, up and at rest."""
    with Lab(fsync=True) as lab:
        kube = KubeClient(lab.apiserver_url, token=lab.admin_token, ca_file=str(lab.ca_file))
        async with Stack(lab, say) as stack, aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            await stack.kubectl("scale", "-n", SYSTEM, "deployment/sendward-operator", "--replicas=1")
            await stack.onboard(resources.NAMESPACE)
            await stack.apply(resources.base())
            await stack.deploy_gateway(resources.NAMESPACE, resources.GATEWAY, replicas=1)
            say("waiting for the gateway pod")
            selector = f"sendward.io/gateway={resources.GATEWAY}"
            (pod,) = await stack.ready_pods(resources.NAMESPACE, selector, 1)
            await stack.wait_for("mgw", resources.GATEWAY, resources.NAMESPACE)
            tls = await stack.client_tls()
            host = pod["status"]["podIP"]
            vault = VaultReader(lab)
            ready = Ready(kube)
            tasks = [group.create_task(informer.run()) for informer in ready.informers]
            bench = _Bench(stack, kube, session, vault, ready, host, lambda: Probe.open(host, tls), say)
            try:
                await bench.find_operator()
                await bench.settled()
                yield bench
            finally:
                for task in tasks:
                    task.cancel()
                _keep_logs(lab)
                await vault.close()
                await kube.close()


def _keep_logs(lab: Lab) -> None:
    """What the pods wrote, for who wonders about a figure."""
    LOGS.mkdir(parents=True, exist_ok=True)
    for file in (lab.directory / "pods" / "logs").iterdir():
        shutil.copyfile(file, LOGS / file.name)


async def measure(plan: Plan, say: Say) -> list[Figure]:
    """All figures of the operator at one number of accounts."""
    async with _installed(say) as bench:
        found = await _converge(bench, plan)
        found += await _new_accounts(bench, plan)
        found += await _revocations(bench, plan)
        found += await _one_change(bench, plan)
        found += await _rotate_all(bench, plan)
        found += await _idle(bench, plan)
        found += await _restart(bench, plan)
        return found


async def _converge(bench: _Bench, plan: Plan) -> list[Figure]:
    count = plan.accounts
    names = resources.names(count)
    bench.say(f"creating {count} accounts with a key each")
    before, cpu = await bench.settled(), machine.cpu_seconds(bench.pid)
    began = time.monotonic()
    progress = asyncio.create_task(_progress(bench))
    try:
        await bench.create(names)
        created = time.monotonic() - began
        await bench.ready.all(names, seconds=120 + count * 0.2)
        took = time.monotonic() - began
    finally:
        progress.cancel()
    grown = (await bench.settled()).since(before)
    used = machine.cpu_seconds(bench.pid) - cpu
    bench.say(f"converged: {grown.text()}")
    passes = f"over {grown.objects:.0f} objects, {grown.pass_seconds:.2f} s in all"
    return [
        figure("converge_seconds", took, "s", count, f"of which creating {created:.1f} s"),
        figure("api_writes_per_account", grown.writes / count, "writes", count, grown.text()),
        figure("vault_calls_per_account", grown.vault_calls / count, "calls", count),
        figure("operator_cpu_seconds", used, "s", count, f"{used / count * 1000:.2f} ms an account"),
        figure("operator_passes", grown.passes, "passes", count, passes),
        figure("operator_rss_mb", machine.rss_mb(bench.pid, peak=True), "MB", count, "highest"),
    ]


async def _progress(bench: _Bench) -> None:
    while True:
        await asyncio.sleep(10)
        bench.say(f"  ready: {bench.ready.count()}")


async def _soon(ask: Callable[[], Awaitable[T]], good: Callable[[T], bool]) -> T:
    """The first good answer; asks every few milliseconds. Raises TimeoutError."""
    async with asyncio.timeout(60):
        while not good(answer := await ask()):  # noqa: ASYNC110 - other processes know nothing of our events
            await asyncio.sleep(_POLL_SECONDS)
    return answer


async def _new_accounts(bench: _Bench, plan: Plan) -> list[Figure]:
    """From the create call of the account to the first accepted message with its new key."""
    bench.say(f"{plan.singles} new accounts, one by one")
    probe = await bench.probe()
    found = []
    names = resources.names(plan.singles, "new")
    namespace = await bench.kube.get(kinds.NAMESPACE, None, resources.NAMESPACE)
    for name in names:
        began = time.monotonic()
        await bench.kube.create(kinds.SENDER_ACCOUNT, resources.account(name))
        made = await bench.kube.create(kinds.API_KEY, resources.key(name))
        path = f"{namespace['metadata']['uid']}/{made['metadata']['uid']}"
        value: str = await _soon(partial(bench.vault.key, path), bool)
        await _soon(partial(probe.send, value), lambda status: status == 202)
        found.append((time.monotonic() - began) * 1000)
        await bench.ready.all([name], seconds=60)
    probe.close()
    await bench.settled()
    return _percentiles("apply_to_enforced_ms", found, plan)


def _percentiles(name: str, values: list[float], plan: Plan) -> list[Figure]:
    note = f"{len(values)} times, from {min(values):.0f} to {max(values):.0f}"
    return [
        figure(f"{name}_p{share}", percentile(values, share / 100), "ms", plan.accounts, note)
        for share in (50, 99)
    ]


async def _revocations(bench: _Bench, plan: Plan) -> list[Figure]:
    """From the patch call to the first refusal, on a connection that is open already."""
    bench.say(f"{plan.singles} revocations, one by one")
    found = []
    for name in resources.names(plan.singles, "new"):
        status = (await bench.kube.get(kinds.API_KEY, resources.NAMESPACE, name))["status"]
        value = await bench.vault.key(status["vaultPath"])
        probe = await bench.probe()
        if await probe.send(value) != 202:
            raise RuntimeError(f"the key of {name} is not accepted before its revocation")
        began = time.monotonic()
        change = {"op": "add", "path": "/spec/revokeThrough", "value": 1}
        patch = asyncio.create_task(bench.kube.patch(kinds.API_KEY, resources.NAMESPACE, name, [change]))
        await _soon(partial(probe.send, value), lambda status: status == 401)
        found.append((time.monotonic() - began) * 1000)
        await patch
        probe.close()
    await bench.settled()
    return _percentiles("revoke_to_refused_ms", found, plan)


async def _one_change(bench: _Bench, plan: Plan) -> list[Figure]:
    """What one changed account costs, until its status says so."""
    bench.say("one changed account")
    (name,) = resources.names(1)
    before, cpu = await bench.settled(), machine.cpu_seconds(bench.pid)
    change = {"op": "replace", "path": "/spec/senderIDs", "value": ["CHANGED"]}
    await bench.kube.patch(kinds.SENDER_ACCOUNT, resources.NAMESPACE, name, [change])
    await asyncio.sleep(_QUIET_SECONDS)
    await bench.ready.all([name], seconds=60)
    grown = (await bench.settled()).since(before)
    used = machine.cpu_seconds(bench.pid) - cpu
    note = f"{grown.passes:.0f} passes over {grown.objects:.0f} objects; {used * 1000:.0f} ms of CPU in all"
    return [
        figure("one_change_api_requests", grown.requests, "requests", plan.accounts, grown.text()),
        figure("one_change_compile_ms", grown.pass_seconds * 1000, "ms", plan.accounts, note),
    ]


async def _rotate_all(bench: _Bench, plan: Plan) -> list[Figure]:
    """From the first patch of a nonce until every key is Ready with its second version."""
    bench.say(f"rotation of {plan.accounts} keys at once")
    names = resources.names(plan.accounts)
    change = {"op": "add", "path": "/spec/rotateNonce", "value": "again"}

    async def patch(name: str) -> None:
        await bench.kube.patch(kinds.API_KEY, resources.NAMESPACE, name, [change])

    before, cpu = await bench.settled(), machine.cpu_seconds(bench.pid)
    bench.ready.forget(kinds.API_KEY, names)
    began = time.monotonic()
    progress = asyncio.create_task(_progress(bench))
    try:
        await _several_at_once(names, patch)
        patched = time.monotonic() - began
        await bench.ready.all(names, seconds=120 + plan.accounts * 0.2)
        took = time.monotonic() - began
    finally:
        progress.cancel()
    grown = (await bench.settled()).since(before)
    used = machine.cpu_seconds(bench.pid) - cpu
    count = plan.accounts
    return [
        figure("rotate_all_seconds", took, "s", count, f"of which patching {patched:.1f} s"),
        figure("rotate_all_writes_per_key", grown.writes / count, "writes", count, grown.text()),
        figure("rotate_all_vault_calls_per_key", grown.vault_calls / count, "calls", count),
        figure("rotate_all_cpu_seconds", used, "s", count, f"{used / count * 1000:.2f} ms a key"),
        figure("rotate_all_rss_mb", machine.rss_mb(bench.pid, peak=True), "MB", count, "highest until now"),
    ]


async def _idle(bench: _Bench, plan: Plan) -> list[Figure]:
    bench.say(f"idle for {plan.idle_seconds:.0f} s")
    before, cpu = await bench.settled(), machine.cpu_seconds(bench.pid)
    await asyncio.sleep(plan.idle_seconds)
    grown = (await bench.counted()).since(before)
    used = machine.cpu_seconds(bench.pid) - cpu
    minutes = plan.idle_seconds / 60
    return [
        figure("idle_writes_per_minute", grown.writes / minutes, "writes", plan.accounts, grown.text()),
        figure("idle_cpu_percent", used / plan.idle_seconds * 100, "%", plan.accounts, "of one core"),
    ]


async def _restart(bench: _Bench, plan: Plan) -> list[Figure]:
    """From the deletion of the operator's pod until its successor leads and has looked at everything."""
    bench.say("restart of the operator")
    objects = 2 * plan.accounts
    old = bench.operator
    began = time.monotonic()
    await bench.kube.delete(kinds.POD, SYSTEM, old)
    await bench.find_operator(besides=old)

    async def done() -> bool:
        try:
            found = await bench.counted()
        except aiohttp.ClientError:
            return False
        return found.leader and found.objects >= objects

    await eventually(done, "the first pass of the new operator", seconds=180, every=0.05)
    took = time.monotonic() - began
    started = machine.age_seconds(bench.pid)
    used = machine.cpu_seconds(bench.pid)
    grown = await bench.settled()
    return [
        figure("restart_to_ready_seconds", took, "s", plan.accounts, "from the deletion of its pod"),
        figure(
            "restart_process_seconds", started, "s", plan.accounts, f"of the new process; {used:.1f} s CPU"
        ),
        figure("restart_writes", grown.writes, "writes", plan.accounts, grown.text()),
        figure("restart_rss_mb", machine.rss_mb(bench.pid, peak=True), "MB", plan.accounts, "highest"),
    ]
