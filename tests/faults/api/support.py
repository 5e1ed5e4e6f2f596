"""etcd beside the API server, servers that stand still, and a sender who never stops."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import ssl
import subprocess
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

from sendward import names
from tests.e2e.support import ACCEPTED, Tenant, operators
from tests.lab.builds import require
from tests.lab.http import Api
from tests.lab.kubernetes_api import ETCD_URL
from tests.lab.servers import APISERVER, CONTROLLER_MANAGER, ETCD, Lab
from tests.lab.stack import SYSTEM, Object, Stack, eventually

_POLL_SECONDS: Final = 0.05  # 20 messages a second
SECONDS: Final = 120.0
_REFUSED: Final = {401, 403}
_NONE: Final = 0  # no answer
_ABOVE_ANY: Final = 40  # messages: more than the limits of the quickstart let pass at once


class Etcd:
    """What somebody with access to etcd may do; through its JSON gateway."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._api = Api(ETCD_URL)

    def call(self, path: str, body: Object) -> Any:
        return self._api.call("POST", f"/v3/{path}", body)

    def put(self, plural: str, obj: Object) -> None:
        """Write an object of ours past the API server: no schema, no admission."""
        meta = obj["metadata"]
        key = _key(plural, meta["namespace"], meta["name"])
        self.call("kv/put", {"key": key, "value": b64encode(json.dumps(obj).encode()).decode()})

    def get(self, plural: str, namespace: str, name: str) -> Object:
        found = self.call("kv/range", {"key": _key(plural, namespace, name)})
        obj: Object = json.loads(b64decode(found["kvs"][0]["value"]))
        return obj

    def delete(self, plural: str, namespace: str, name: str) -> None:
        """Remove an object, finalizers or not."""
        self.call("kv/deleterange", {"key": _key(plural, namespace, name)})

    def compact(self) -> None:
        """Forget all history: watches from before now get a 410."""
        revision = self.call("kv/range", {"key": b64encode(b"x").decode()})["header"]["revision"]
        self.call("kv/compaction", {"revision": revision, "physical": True})

    def full(self, *, full: bool) -> None:
        """Raise or clear the alarm by which etcd refuses writes when its space is used up."""
        action = "ACTIVATE" if full else "DEACTIVATE"
        member = self.call("cluster/member/list", {})["members"][0]["ID"]
        self.call("maintenance/alarm", {"action": action, "memberID": member, "alarm": "NOSPACE"})


def _key(plural: str, namespace: str, name: str) -> str:
    return b64encode(f"/registry/{names.GROUP}/{plural}/{namespace}/{name}".encode()).decode()


@asynccontextmanager
async def paused(*pids: int) -> AsyncIterator[None]:
    """Processes that are alive and do nothing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def without_api_server(stack: Stack) -> AsyncIterator[None]:
    """The API server is killed; etcd goes on."""
    await asyncio.to_thread(stack.lab.kill, APISERVER)
    try:
        yield
    finally:
        await asyncio.to_thread(stack.lab.restart, APISERVER)


class Backup:
    """A copy of etcd's data, as of one instant."""

    def __init__(self, stack: Stack, place: Path) -> None:
        self._lab = stack.lab
        self._place = place

    async def take(self) -> None:
        """etcd stands still meanwhile."""
        pid = self._lab.pid(ETCD)
        assert pid is not None
        async with paused(pid):
            await asyncio.to_thread(shutil.copytree, self._lab.etcd_data, self._place)

    async def restore(self, *, bump: bool) -> None:
        """Everything since is undone. With `bump` revisions go on far above, as etcd's manual advises, and
        all history is marked as compacted; without they count again from where they were."""
        # What watches the API server all the time is started anew with it; ours must manage by itself.
        for name in (CONTROLLER_MANAGER, APISERVER, ETCD):
            await asyncio.to_thread(self._lab.kill, name)
        await asyncio.to_thread(self._replace, bump)
        for name in (ETCD, APISERVER, CONTROLLER_MANAGER):
            await asyncio.to_thread(self._lab.restart, name)

    def _replace(self, bump: bool) -> None:
        shutil.rmtree(self._lab.etcd_data)
        if not bump:
            shutil.copytree(self._place, self._lab.etcd_data)
            return
        command = [
            str(require("etcdutl")), "snapshot", "restore", str(self._place / "member" / "snap" / "db"),
            "--skip-hash-check", "--bump-revision=1000000000", "--mark-compacted",
            f"--data-dir={self._lab.etcd_data}",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)


class Sending:
    """Somebody who sends with a key 20 times a second, which is accepted, or refused, at every instant."""

    def __init__(self, tenant: Tenant, pod: Object, key: str, *, accepted: bool = True) -> None:
        self._tenant, self._pod, self._key = tenant, pod, key
        self._right = {ACCEPTED} if accepted else _REFUSED
        self._task: asyncio.Task[None] | None = None
        self._answers: Counter[int] = Counter()

    async def __aenter__(self) -> Sending:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    def check(self) -> None:
        """Every message was answered, rightly."""
        assert self._answers, "nothing was sent"
        assert self._answers.keys() <= self._right, dict(self._answers)

    async def _run(self) -> None:
        while True:
            try:
                status = (await self._tenant.send(self._pod, self._key)).status
            except (OSError, EOFError, TimeoutError):
                status = _NONE
            self._answers[status] += 1
            await asyncio.sleep(_POLL_SECONDS)


async def unlimited(tenant: Tenant) -> None:
    """The senders of a test send often; limits are not what it is about."""
    many = [{"messages": 1_000_000, "per": "1s"}]
    await tenant.patch("mrl", "standard", {"spec": {"account": many, "key": many}})
    pod, key = await tenant.pod(), await tenant.key("globex-main")

    async def enforced() -> bool:
        return all([(await tenant.send(pod, key)).status == ACCEPTED for _ in range(_ABOVE_ANY)])

    await eventually(enforced, "the limits are raised", seconds=SECONDS)


async def versions(tenant: Tenant, key: str) -> list[tuple[int, str]]:
    status = (await tenant.get("akey", key))["status"]
    return [(v["number"], v["state"]) for v in status.get("versions", [])]


async def until_versions(tenant: Tenant, key: str, wanted: list[tuple[int, str]]) -> None:
    async def check() -> bool:
        try:
            return await versions(tenant, key) == wanted
        except Exception:  # noqa: BLE001 - the API server may be away
            return False

    await eventually(check, f"versions of {key} are {wanted}", seconds=SECONDS, every=0.3)


async def in_vault(tenant: Tenant, key: str) -> list[int]:
    """KV versions of a key that are there and not destroyed."""
    path = (await tenant.get("akey", key))["status"]["vaultPath"]
    found = (await tenant.stack.vault_get(f"sendward/metadata/{path}"))["data"]["versions"]
    return sorted(int(number) for number, version in found.items() if not version["destroyed"])


async def until_answer(tenant: Tenant, pod: Object, key: str, status: int) -> None:
    async def check() -> bool:
        return (await tenant.send(pod, key)).status == status

    await eventually(check, f"answer {status}", seconds=30, every=0.1)


async def led(stack: Stack, *, besides: str = "") -> str:
    """The name of the pod that leads, Ready."""

    async def check() -> str:
        try:
            leader = await stack.leader()
            pods = {pod["metadata"]["name"] for pod in await operators(stack)}
        except Exception:  # noqa: BLE001 - the API server may be away
            return ""
        return leader if leader in pods and leader != besides else ""

    found: str = await eventually(check, "an operator leads", seconds=SECONDS, every=0.3)
    return found


async def pid_of(stack: Stack, operator: str) -> int:
    """Of its process, which may just be starting."""

    def running() -> int:
        try:
            return stack.runner.pid_of(SYSTEM, operator, "operator")
        except LookupError:
            return 0

    found: int = await eventually(running, f"{operator} runs", seconds=SECONDS)
    return found


async def epoch(stack: Stack) -> int:
    found: int = (await stack.get("lease", names.LEASE, SYSTEM))["spec"]["leaseTransitions"]
    return found


async def fresh_key(tenant: Tenant, name: str) -> str:
    """Another key of an account whose policy hands over in a Secret; returns its value."""
    key = {
        "apiVersion": names.API_VERSION, "kind": "APIKey", "metadata": {"name": name},
        "spec": {"account": "globex"},
    }  # fmt: skip
    await tenant.apply(key)
    await tenant.stack.wait_for("akey", name, tenant.namespace, seconds=SECONDS)
    return await tenant.key(name)


class Foreign:
    """Somebody else with all rights: writes without kubectl's start-up time. `async with`."""

    def __init__(self, lab: Lab) -> None:
        tls = ssl.create_default_context(cafile=str(lab.ca_file))
        self._session = aiohttp.ClientSession(
            lab.apiserver_url,
            connector=aiohttp.TCPConnector(ssl=tls),
            headers={"Authorization": f"Bearer {lab.admin_token}"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def merge(self, path: str, change: Object) -> int:
        """A merge patch; the status of the answer."""
        headers = {"Content-Type": "application/merge-patch+json"}
        async with self._session.patch(path, data=json.dumps(change), headers=headers) as answer:
            return answer.status

    async def create(self, path: str, obj: Object) -> Object:
        """The object as it was created."""
        async with self._session.post(path, json=obj) as answer:
            answer.raise_for_status()
            made: Object = await answer.json()
            return made

    async def delete(self, path: str) -> None:
        async with self._session.delete(path) as answer:
            answer.raise_for_status()


def ours(tenant: Tenant, plural: str, name: str = "") -> str:
    """The path of an object of ours, or of all of a kind."""
    path = f"/apis/{names.API_VERSION}/namespaces/{tenant.namespace}/{plural}"
    return f"{path}/{name}" if name else path
