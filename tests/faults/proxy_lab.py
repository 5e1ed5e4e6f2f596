"""Both servers of a lab behind tamper proxies, and the operator's pods sent through them."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from tests.faults.proxy import TamperProxy
from tests.faults.proxy_rules import Ledger
from tests.lab import BRIDGE_ADDRESS
from tests.lab.servers import Lab
from tests.lab.stack import SYSTEM, Stack

_DEPLOYMENT: Final = "deployment/sendward-operator"


@dataclass(frozen=True, slots=True)
class Proxies:
    """`ledger` numbers and rules the calls to both."""

    ledger: Ledger
    kube: TamperProxy
    vault: TamperProxy

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that point an operator process at the proxies; the lab's CA vouches for both."""
        return {"SENDWARD_KUBE_URL": self.kube.url, "SENDWARD_VAULT_ADDRESS": self.vault.url}

    async def route(self, stack: Stack) -> None:
        """Send the operator's pods through the proxies; returns when all of them were replaced."""
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        await self._set(stack, variables)

    async def release(self, stack: Stack) -> None:
        """Send them straight to the servers again."""
        await self._set(stack, ["SENDWARD_KUBE_URL-", f"SENDWARD_VAULT_ADDRESS={stack.lab.vault_address}"])

    async def _set(self, stack: Stack, variables: list[str]) -> None:
        await stack.kubectl("set", "env", "-n", SYSTEM, _DEPLOYMENT, *variables)
        await stack.kubectl("rollout", "status", "-n", SYSTEM, _DEPLOYMENT, "--timeout=60s")


@asynccontextmanager
async def lab_proxies(lab: Lab) -> AsyncIterator[Proxies]:
    """Proxies at the bridge's address, so that pods reach them, with certificates of the lab's CA."""
    pair = lab.ca.issue("tamper-proxy", "tamper-proxy", names=(BRIDGE_ADDRESS, "127.0.0.1", "localhost"))
    serve = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serve.load_cert_chain(pair.certificate, pair.key)
    trust = ssl.create_default_context(cafile=str(lab.ca_file))
    ledger = Ledger()
    kube = TamperProxy(
        "kube", lab.apiserver_url, ledger, host=BRIDGE_ADDRESS, upstream_tls=trust, serve_tls=serve
    )
    vault = TamperProxy(
        "vault", lab.vault_address, ledger, host=BRIDGE_ADDRESS, upstream_tls=trust, serve_tls=serve
    )
    async with kube, vault:
        yield Proxies(ledger, kube, vault)
