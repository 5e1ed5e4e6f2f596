"""What the steps of the story share: the running stack with the quickstart in it, and the senders.

sender     address         who
shop       10.123.200.110  acme, key acme-shop
otp        10.123.201.110  acme, key acme-otp (only from 10.123.201.0/24)
stranger   10.123.210.110  acme's key again, but outside acme's networks
globex     10.123.220.110  globex, key globex-main
hooli      10.123.220.120  hooli, an account without limits that a step adds; connections stay open
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sendward import names
from sendward.verdict import Reason
from tests.lab.client import Answer, Sender, sender
from tests.lab.stack import Stack, eventually

GATEWAY: Final = "sms"
PODS: Final = f"{names.LABEL_GATEWAY}={GATEWAY}"
RESOURCES: Final = (
    ("messaginggateway", "sms"),
    ("senderaccount", "acme"),
    ("senderaccount", "globex"),
    ("apikeypolicy", "standard"),
    ("apikeypolicy", "globex"),
    ("apikey", "acme-shop"),
    ("apikey", "acme-otp"),
    ("apikey", "globex-main"),
    ("ratelimitpolicy", "standard"),
)


@dataclass
class Stage:
    """See the module. `pods` are the addresses of the gateway's two pods."""

    stack: Stack
    namespace: str
    tls: ssl.SSLContext
    pods: list[str]
    shop: Sender
    otp: Sender
    stranger: Sender
    globex: Sender
    hooli: Sender
    keys: set[str] = field(default_factory=set, repr=False)  # every value that was handed out
    revoked: str = field(default="", repr=False)  # a key that a step revoked
    before_seal: str = field(default="", repr=False)  # a key from before Vault was sealed

    async def key(self, name: str, version: int = 0) -> str:
        """An API key's value, as its holder would read it from Vault."""
        value = await self.stack.key(name, self.namespace, version)
        self.keys.add(value)
        return value

    async def patch(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        """Change the spec of a resource, as a user would."""
        await self.stack.patch(kind, name, self.namespace, {"spec": spec})

    async def ready(self, kind: str, name: str, *, seconds: float = 30) -> None:
        """Wait until a resource is Ready in its present generation."""
        await self.stack.wait_for(kind, name, self.namespace, seconds=seconds)


@dataclass(frozen=True)
class Step:
    """One expectation. `run` returns what happened, or raises AssertionError with it."""

    title: str
    run: Callable[[Stage], Awaitable[str]]

    @property
    def name(self) -> str:
        """Short name, for test reports."""
        return self.run.__name__


@contextlib.asynccontextmanager
async def open_stage(stack: Stack, namespace: str, say: Callable[[str], None]) -> AsyncIterator[Stage]:
    """Onboard a namespace, apply the quickstart, start two gateway pods and the senders.

    Raises StackError when something does not come up.
    """
    say(f"Namespace {namespace}: sendward onboard, policies/quickstart/, a sample gateway in two pods")
    await stack.onboard(namespace)
    await stack.quickstart(namespace)
    await stack.deploy_gateway(namespace, GATEWAY)
    pods = [pod["status"]["podIP"] for pod in await stack.ready_pods(namespace, PODS, 2)]
    for kind, name in RESOURCES:
        await stack.wait_for(kind, name, namespace)
    tls = await stack.client_tls()
    tls.load_verify_locations(cafile=str(stack.lab.ca_file))  # of certificates that a user brings along
    keys = {name: await stack.key(name, namespace) for name in ("acme-shop", "acme-otp", "globex-main")}
    async with (
        sender("10.123.200.110", tls, keys["acme-shop"]) as shop,
        sender("10.123.201.110", tls, keys["acme-otp"]) as otp,
        sender("10.123.210.110", tls, keys["acme-shop"]) as stranger,
        sender("10.123.220.110", tls, keys["globex-main"], keep_alive=True) as globex,
        sender("10.123.220.120", tls, keep_alive=True) as hooli,
    ):
        yield Stage(
            stack, namespace, tls, sorted(pods), shop, otp, stranger, globex, hooli, set(keys.values())
        )


def expect(answer: Answer, status: int, reason: Reason | None = None) -> None:
    """Raise AssertionError unless the answer is this one."""
    wanted = f"{status} {reason.code} ({reason.name})" if reason else str(status)
    same = answer.status == status and (reason is None or answer.code == reason.code)
    assert same, f"expected {wanted}, got {answer}: {answer.body[:300]}"


async def until_answer(
    send: Callable[[], Awaitable[Answer]], status: int, *, seconds: float = 10.0
) -> tuple[Answer, float]:
    """Send until a status comes back; the answer and the ms since the call."""
    started = time.perf_counter()

    async def check() -> Answer | None:
        answer = await send()
        return answer if answer.status == status else None

    found: Answer = await eventually(check, f"an answer {status}", seconds=seconds, every=0.005)
    return found, (time.perf_counter() - started) * 1000


async def on_all(stage: Stage, send: Callable[[str], Awaitable[Answer]]) -> Sequence[Answer]:
    """The same through every pod at once."""
    return await asyncio.gather(*(send(pod) for pod in stage.pods))


def old_tls(context: ssl.SSLContext) -> ssl.SSLContext:
    """A client that speaks nothing newer than TLS 1.2 and trusts what `context` trusts."""
    made = ssl.create_default_context()
    for certificate in context.get_ca_certs(binary_form=True):
        made.load_verify_locations(cadata=certificate)
    made.minimum_version = made.maximum_version = ssl.TLSVersion.TLSv1_2
    return made
