"""A real Vault that is put back to an older snapshot, or changed by hand, under the whole operator."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from sendward.apply import kinds
from sendward.apply.kube import KubeClient
from sendward.apply.signing import load_signer
from sendward.apply.vault import VaultClient
from sendward.apply.vault_auth import TokenLogin
from sendward.controller.app import Operator
from sendward.controller.settings import load
from tests.apply.administrator import run_bootstrap
from tests.core.stand import TENANT, Guard, Stand, _free_port
from tests.core.test_operator import GATEWAY
from tests.lab.servers import Lab

pytestmark = pytest.mark.lab


class RealVault(Stand):
    """The operator over the fake API server, with scripted guards, and a real Vault."""

    def __init__(self, lab: Lab) -> None:
        super().__init__()
        self._lab = lab
        self.keep: set[str] = set()
        self.refuse: set[str] = set()

    async def start(self) -> None:
        lab = self._lab
        kube = KubeClient(self.kube.url)
        vault = VaultClient(lab.vault_address, TokenLogin(lab.vault_token), ca_file=str(lab.ca_file))
        self._clients = [kube, vault]
        settings = load({"SENDWARD_VAULT_ADDRESS": lab.vault_address})
        signer = await load_signer(kube, settings.namespace)
        self.operator = Operator(
            settings, kube, vault, signer, follow=self._follow, hub_port=_free_port(), probe_port=0
        )
        self._task = asyncio.create_task(self.operator.run())
        await self.until(lambda: TENANT in self.operator.store.opened)

    def versions(self, key: str) -> list[tuple[int, str]]:
        """(number, state) of what is recorded."""
        return [(v["number"], v["state"]) for v in self.status(key).get("versions", [])]

    def status(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = (self.get(kinds.API_KEY, key) or {})["status"]
        return found

    def id_of(self, key: str, number: int) -> str:
        return str(next(v["id"] for v in self.status(key)["versions"] if v["number"] == number))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for a condition: real calls to Vault take their time on a busy machine."""
        async with asyncio.timeout(120):
            while not holds():  # noqa: ASYNC110 - of the operator
                await asyncio.sleep(0.02)

    async def becomes(self, key: str, *wanted: tuple[int, str]) -> None:
        """Until these versions are recorded, and the key is Ready."""
        await self.until(lambda: self.versions(key) == list(wanted))
        await self.until(lambda: self.condition("APIKey", key, "Ready") == "True")

    def change(self, key: str, **spec: Any) -> None:
        """A user changes fields of a key."""
        self.put("APIKey", key, {"account": "a", "policy": "std", **spec})

    async def judge(self, guard: Guard) -> None:
        """At every instant: what is held is accepted, what is revoked is not."""
        while True:
            accepted = {
                version.id
                for account in guard.accounts().values()
                for key in account.keys
                for version in key.versions
                if not version.revoked
            }
            assert accepted >= self.keep
            assert not accepted & self.refuse
            await asyncio.sleep(0.005)


class Administrator:
    """What somebody with every right does to Vault."""

    def __init__(self, lab: Lab) -> None:
        self._address = lab.vault_address
        trust = ssl.create_default_context(cafile=str(lab.ca_file))
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trust), headers={"X-Vault-Token": lab.vault_token}
        )

    async def call(self, method: str, path: str, body: dict[str, Any] | bytes | None = None) -> bytes:
        """The answer; 404 is one. Raises on other refusals."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        async with self.session.request(method, f"{self._address}/v1/{path}", data=data) as answer:
            raw = await answer.read()
            assert answer.status < 400 or answer.status == 404, (path, answer.status, raw[:200])
            return raw

    async def live(self, path: str) -> list[int]:
        """KV versions of a path whose value can be read."""
        found = json.loads(await self.call("GET", f"sendward/metadata/{path}")).get("data") or {}
        versions = found.get("versions", {}).items()
        return sorted(int(n) for n, v in versions if not v["destroyed"] and not v["deletion_time"])

    async def newest(self, path: str) -> str:
        """Id of the version that a holder reads."""
        found = json.loads(await self.call("GET", f"sendward/data/{path}"))
        return str(found["data"]["data"]["id"])

    async def restore(self, snapshot: bytes) -> None:
        """Put Vault's storage back; returns when it serves again."""
        await self.call("POST", "sys/storage/raft/snapshot-force", snapshot)
        async with asyncio.timeout(60):
            while True:
                async with self.session.get(f"{self._address}/v1/sys/health") as answer:
                    if answer.status == 200:
                        return
                await asyncio.sleep(0.1)


@pytest.fixture
async def admin(vault_server: Lab) -> AsyncIterator[Administrator]:
    result = run_bootstrap(vault_server)
    assert result.exit_code == 0, result.output
    made = Administrator(vault_server)
    yield made
    await made.session.close()


@pytest.fixture
async def stand(vault_server: Lab, admin: Administrator) -> AsyncIterator[RealVault]:
    async with RealVault(vault_server) as stand:
        yield stand


async def test_vault_restored_from_an_older_snapshot_or_changed_by_hand(
    stand: RealVault, admin: Administrator
) -> None:
    """What was issued since is issued anew beside the old version; what was revoked or deleted since is
    removed again, and never accepted; what a hand took away is issued anew."""
    stand.put("MessagingGateway", "sms", GATEWAY)
    stand.put("APIKeyPolicy", "std", {"rotation": {"overlap": "24h"}})
    stand.put("SenderAccount", "a", {"gateways": ["sms"]})
    guard = await stand.add_guard("sms-0", "sms")
    early = ("rotated", "revoked", "deleted", "destroyed", "foreign")
    for key in early:
        stand.change(key)
    for key in early:
        await stand.becomes(key, (1, "Current"))
    snapshot = await admin.call("GET", "sys/storage/raft/snapshot")
    stand.keep |= {stand.id_of(key, 1) for key in ("rotated", "destroyed", "foreign")}
    stand.refuse |= {stand.id_of(key, 1) for key in ("revoked", "deleted")}
    deleted = stand.status("deleted")["vaultPath"]
    stand.change("rotated", rotateNonce="1")
    stand.change("revoked", revokeThrough=1)
    stand.change("late")
    await stand.erase("APIKey", "deleted")
    await stand.becomes("rotated", (1, "Previous"), (2, "Current"))
    await stand.becomes("revoked", (1, "Revoked"), (2, "Current"))
    await stand.becomes("late", (1, "Current"))
    await stand.until(lambda: stand.get(kinds.API_KEY, "deleted") is None)
    stand.keep |= {stand.id_of(key, n) for key, n in (("rotated", 2), ("revoked", 2), ("late", 1))}
    await stand.until(lambda: not {k.name for a in guard.accounts().values() for k in a.keys} & {"deleted"})
    judge = asyncio.create_task(stand.judge(guard))
    await admin.restore(snapshot)
    paths = {key: str(stand.status(key)["vaultPath"]) for key in (*early[:2], *early[3:], "late")}
    assert await admin.live(paths["revoked"]) == [1]
    assert await admin.live(deleted) == [1]
    await admin.call("PUT", f"sendward/destroy/{paths['destroyed']}", {"versions": [1]})
    foreign = {"options": {"cas": 1}, "data": {"password": "by hand"}}
    await admin.call("POST", f"sendward/data/{paths['foreign']}", foreign)
    await stand.operator._audit.run()
    await stand.becomes("rotated", (1, "Previous"), (2, "Previous"), (3, "Current"))
    await stand.becomes("revoked", (1, "Revoked"), (2, "Previous"), (3, "Current"))
    for key in ("late", "destroyed", "foreign"):
        await stand.becomes(key, (1, "Previous"), (2, "Current"))
    assert not judge.done(), judge.exception()
    judge.cancel()
    for key, path in paths.items():
        assert await admin.newest(path) == stand.id_of(key, stand.status(key)["currentVersion"])
    assert len(await admin.live(paths["revoked"])) == 1
    assert await admin.live(deleted) == []
