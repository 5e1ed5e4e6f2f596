"""What the fault rows of Vault share: an installation behind the tamper proxies, keys of an account without
limits, messages all the time, and what an administrator can do to Vault."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from sendward import names
from tests.e2e.support import Record, Tenant, new_tenant
from tests.faults.proxy_lab import Proxies, lab_proxies
from tests.faults.proxy_rules import Rule
from tests.lab.client import Sender, Traffic
from tests.lab.servers import VAULT, Lab
from tests.lab.stack import Object, Stack, eventually

PATIENCE: Final = 180.0  # seconds; on a busy machine operators lose their Lease now and then
REFUSALS: Final = (403, 429, 500, 503)
HANG_SECONDS: Final = 30.0  # twice as long as the operator waits
_SOURCE: Final = "10.123.200.240"


@dataclass
class Vault:
    """Vault as its administrator sees it, past the proxies."""

    session: aiohttp.ClientSession
    address: str

    async def call(self, method: str, path: str, body: Object | None = None) -> Object:
        """The answer as JSON, {} for an empty one; 404 is an answer. Raises on other refusals."""
        async with self.session.request(method, f"{self.address}/v1/{path}", json=body) as answer:
            assert answer.status < 400 or answer.status == 404, (path, answer.status, await answer.text())
            raw = await answer.read()
            return json.loads(raw) if raw else {}

    async def live(self, path: str) -> list[int]:
        """KV versions of a path whose value can be read."""
        found = (await self.call("GET", f"sendward/metadata/{path}")).get("data") or {}
        versions = found.get("versions", {}).items()
        return sorted(int(n) for n, v in versions if not v["destroyed"] and not v["deletion_time"])

    async def operator_tokens(self) -> list[str]:
        """Accessors of the tokens that the operator logged in for."""
        keys = (await self.call("GET", "auth/token/accessors?list=true"))["data"]["keys"]
        found = []
        for accessor in keys:
            if (await self._login(accessor)).startswith("auth/jwt/"):
                found.append(accessor)
        return found

    async def _login(self, accessor: str) -> str:
        """The path by which somebody logged in; "" when the token has expired since it was listed."""
        address = f"{self.address}/v1/auth/token/lookup-accessor"
        async with self.session.post(address, json={"accessor": accessor}) as answer:
            told = await answer.json()
            if answer.status in (400, 403) and "invalid accessor" in str(told):
                return ""
            assert answer.status == 200, (answer.status, told)
            return str(told["data"]["path"])


@dataclass
class Stage:
    """`tenant` has the account `bank`, whose keys have no limit and an overlap of two hours."""

    stack: Stack
    tenant: Tenant
    proxies: Proxies
    vault: Vault
    pod: str
    tls: ssl.SSLContext

    # --- keys -----------------------------------------------------------------------------------

    async def declare(self, *keys: str) -> None:
        """Create API keys."""
        await self.tenant.apply(*(_object("APIKey", key, {"account": "bank"}) for key in keys))

    async def issued(self, *keys: str) -> list[str]:
        """Create API keys and wait for them; their values."""
        await self.declare(*keys)
        for key in keys:
            await self.ready(key)
        return [await self.tenant.key(key) for key in keys]

    async def change(self, key: str, **spec: Any) -> None:
        """A user changes fields of an API key."""
        await self.tenant.patch("akey", key, {"spec": spec})

    async def versions(self, key: str) -> list[tuple[int, str]]:
        """(number, state) of what is recorded."""
        status = (await self.tenant.get("akey", key))["status"]
        return [(v["number"], v["state"]) for v in status.get("versions", [])]

    async def until(self, key: str, *wanted: tuple[int, str]) -> None:
        """Until these versions are recorded and the key is Ready."""

        async def recorded() -> bool:
            return await self.versions(key) == list(wanted)

        await eventually(recorded, f"{key} has {wanted}", seconds=PATIENCE)
        await self.ready(key)

    async def ready(self, key: str) -> None:
        """Until the key is Ready."""
        await self.stack.wait_for("akey", key, self.tenant.namespace, seconds=PATIENCE)

    async def delete(self, key: str) -> None:
        """A user deletes the key; until it is gone."""
        await self.tenant.delete("akey", key, wait=False)
        await self.until_gone(key)

    async def until_gone(self, key: str) -> None:
        """Until a deleted key is released."""

        async def gone() -> bool:
            return await self.tenant.find("akey", key) is None

        await eventually(gone, f"{key} is released", seconds=PATIENCE)

    async def waits_for_vault(self, key: str) -> None:
        """Until the status says that a step of the key waits for Vault."""
        await self.tenant.until_condition(
            "akey", key, "Programmed", "False", "VaultUnavailable", seconds=PATIENCE
        )

    async def path(self, key: str) -> str:
        """Where a key lies in Vault."""
        return str((await self.tenant.get("akey", key))["status"]["vaultPath"])

    async def live(self, key: str) -> list[int]:
        """KV versions of a key whose value can be read."""
        return await self.vault.live(await self.path(key))

    # --- messages -------------------------------------------------------------------------------

    @asynccontextmanager
    async def traffic(self, key: str) -> AsyncIterator[Traffic]:
        """Twenty messages a second with this key, on a connection that stays open."""
        sender = Sender(self.tenant.client, self.tls, key, keep_alive=True)
        try:
            async with Traffic(sender, [self.pod], every=0.05) as traffic:
                yield traffic
        finally:
            await sender.close()

    async def answer(self, key: str) -> int:
        """What one message with this key is answered, on a new connection."""
        sender = Sender(self.tenant.client, self.tls, key, keep_alive=False)
        try:
            return (await sender.send(self.pod)).status
        finally:
            await sender.close()

    async def until_answer(self, key: str, status: int) -> None:
        """Until messages with this key are answered so."""

        async def check() -> bool:
            return await self.answer(key) == status

        await eventually(check, f"messages are answered {status}", seconds=PATIENCE)

    # --- faults ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def outage(self, kind: str) -> AsyncIterator[None]:
        """Vault cannot be used: `sealed`, `killed`, `refusing` (by turns each status) or `hanging`."""
        lab, rules = self.stack.lab, self.proxies.ledger.rules
        match kind:
            case "sealed":
                await asyncio.to_thread(lab.seal_vault)
            case "killed":
                await asyncio.to_thread(lab.kill, VAULT)
            case "refusing":
                every = [status for _ in range(500) for status in REFUSALS]
                rules += [Rule(lambda call: call.server == "vault", answer=status) for status in every]
            case _:
                rules.append(Rule(lambda call: call.server == "vault", times=None, delay=HANG_SECONDS))
        try:
            yield
        finally:
            rules.clear()
            if kind == "killed":
                await asyncio.to_thread(lab.restart, VAULT)
            elif kind == "sealed":
                await asyncio.to_thread(lab.unseal_vault)


def _object(kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


@asynccontextmanager
async def open_stage(lab: Lab, folder: Path) -> AsyncIterator[Stage]:
    """Install everything, send the operators through the proxies, bring up one gateway pod."""
    async with AsyncExitStack() as exits:
        stack = await exits.enter_async_context(Stack(lab))
        proxies = await exits.enter_async_context(lab_proxies(lab))
        await proxies.route(stack)
        tenant = await exits.enter_async_context(
            new_tenant(stack, Record(folder), address=_SOURCE, label="vault")
        )
        policy = {"rotation": {"overlap": "2h"}, "accountSelector": {"matchLabels": {"tier": "vault"}}}
        bank = _object("SenderAccount", "bank", {"gateways": ["sms"]})
        bank["metadata"]["labels"] = {"tier": "vault"}
        await tenant.apply(_object("APIKeyPolicy", "long", policy), bank)
        trust = ssl.create_default_context(cafile=str(lab.ca_file))
        session = await exits.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=trust), headers={"X-Vault-Token": lab.vault_token}
            )
        )
        pod = str((await tenant.pod())["status"]["podIP"])
        tls = await stack.client_tls()
        yield Stage(stack, tenant, proxies, Vault(session, lab.vault_address), pod, tls)
