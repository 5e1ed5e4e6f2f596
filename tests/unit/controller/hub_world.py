"""A hub on a loopback socket, and who speaks to it."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sendward import document
from sendward.apply.certificates import new_authority
from sendward.clock import SystemClock
from sendward.controller.hub import Hub
from sendward.document import Envelope, Shard
from sendward.graph.facts import Pod
from sendward.protocol import Have
from tests.fakes.guard import FakeGuard, FakeTokens, FakeView

GATEWAY = "uid-tenant-gw"
KEY = Ed25519PrivateKey.generate()
SERVER_NAME = "sendward-hub.sendward-system.svc"
AUTHORITY = new_authority(datetime.now(UTC))
TRUST = ssl.create_default_context(cadata=AUTHORITY.certificate_pem.decode())


def envelope(part: str, revision: int, epoch: int = 3, gateway: str = GATEWAY, text: str = "") -> Envelope:
    payload = document.compress(Shard([document.Account(f"account-{revision}", text)]))
    return document.seal(KEY, gateway, part, epoch, revision, payload)


def have(sealed: Envelope) -> dict[str, Have]:
    return {sealed.part: Have(sealed.epoch, sealed.revision, sealed.digest)}


@dataclass
class World:
    view: FakeView = field(default_factory=FakeView)
    tokens: FakeTokens = field(default_factory=FakeTokens)
    serving: bool = True
    epoch: int = 3
    changes: list[str] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    ahead: list[tuple[str, str, tuple[int, int]]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.hub = Hub(
            self.tokens,
            self.view,
            SystemClock(),
            is_serving=lambda: self.serving,
            epoch=lambda: self.epoch,
            on_change=self._on_change,
            on_epoch=self.epochs.append,
            on_ahead=lambda *what: self.ahead.append(what),
        )

    def _on_change(self, gateway_uid: str, part: str) -> None:
        self.changes.append(gateway_uid)
        self.changed.set()

    def token(self, pod: Pod, *, seconds: float = 600, audience: str = "sendward", bound: bool = True) -> str:
        return self.tokens.issue(pod, time.time() + seconds, audience=audience, bound=bound)

    def guard(self, pod: Pod) -> FakeGuard:
        return FakeGuard(self.hub.port, self.token(pod), TRUST)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for a change after which the condition holds."""
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def has(self, pod: Pod, part: str) -> tuple[int, int] | None:
        guard = self.hub.guards(GATEWAY).get(pod.uid)
        state = guard.parts.get(part) if guard else None
        return (state.epoch, state.revision) if state else None
