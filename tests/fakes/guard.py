"""A scripted guard, and the little of a cluster that the hub sees."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self, TypeVar

import aiohttp
import msgspec
from aiohttp import WSMsgType

from sendward import document, names
from sendward.apply.ports import TokenStatus
from sendward.errors import Unavailable
from sendward.graph.facts import Pod
from sendward.protocol import (
    HUB_PATH,
    MAX_MESSAGE_BYTES,
    Ack,
    GuardMessage,
    Have,
    Hello,
    HubMessage,
    Part,
    Shares,
    SharesAck,
)

_PATIENCE = 10.0  # seconds until a test that waits for a message fails
_M = TypeVar("_M", Part, Shares)


def jwt(subject: str, expires: float) -> str:
    """Shaped like a service-account token; the reviews below know it as a whole."""
    parts = [{"alg": "RS256"}, {"exp": int(expires), "sub": subject}, {"signature": subject}]
    return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts)


@dataclass
class FakeTokens:
    """Reviews tokens that were issued here, as the API server does."""

    known: dict[str, TokenStatus] = field(default_factory=dict)
    reviews: int = 0
    down: bool = False

    def issue(self, pod: Pod, expires: float, *, audience: str = names.AUDIENCE, bound: bool = True) -> str:
        prefix = "authentication.kubernetes.io"
        extra = {f"{prefix}/pod-name": (pod.name,), f"{prefix}/pod-uid": (pod.uid,)} if bound else {}
        token = jwt(f"{pod.uid}-{len(self.known)}", expires)
        username = f"system:serviceaccount:{pod.namespace}:default"
        self.known[token] = TokenStatus(True, username, (audience,), extra)
        return token

    async def review_token(self, token: str, audience: str) -> TokenStatus:
        self.reviews += 1
        if self.down:
            raise Unavailable("no answer")
        return self.known.get(token, TokenStatus(False, "", (), {}))


@dataclass
class FakeView:
    """Pods and gateways. A gateway's uid is `uid-<namespace>-<name>`."""

    of: dict[tuple[str, str], Pod] = field(default_factory=dict)
    stale: int | None = None
    opened: bool = True  # False: the document of no gateway is loaded yet
    place: str = ""  # of the shared counters of all gateways

    def add(self, name: str, gateway: str = "gw", *, namespace: str = "tenant") -> Pod:
        pod = Pod(
            uid=f"uid-{name}",
            namespace=namespace,
            name=name,
            gateway=gateway,
            ready=True,
            terminating=False,
            injected=True,
        )
        self.of[namespace, name] = pod
        return pod

    def change(self, pod: Pod, **changes: bool) -> None:
        self.of[pod.namespace, pod.name] = replace(pod, **changes)  # type: ignore[arg-type]

    def remove(self, pod: Pod) -> None:
        del self.of[pod.namespace, pod.name]

    def pod(self, namespace: str, name: str) -> Pod | None:
        return self.of.get((namespace, name))

    def gateway_uid(self, namespace: str, gateway: str) -> str | None:
        return None if gateway == "missing" else f"uid-{namespace}-{gateway}"

    def pods(self, gateway_uid: str) -> Iterable[Pod]:
        if not self.opened:
            return []
        return [p for p in self.of.values() if self.gateway_uid(p.namespace, p.gateway) == gateway_uid]

    def stale_after(self, gateway_uid: str) -> int | None:
        return self.stale

    def counters(self, gateway_uid: str) -> str:
        return self.place


class FakeGuard:
    """Says what the test tells it to say."""

    def __init__(self, port: int, token: str, tls: ssl.SSLContext) -> None:
        self._port = port
        self._token = token
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self.messages: list[HubMessage] = []
        self.stream: aiohttp.ClientWebSocketResponse

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        try:
            self.stream = await self._session.ws_connect(
                f"wss://127.0.0.1:{self._port}{HUB_PATH}",
                headers={"Authorization": f"Bearer {self._token}"},
                ssl=self._tls,
                server_hostname="sendward-hub.sendward-system.svc",
                max_msg_size=MAX_MESSAGE_BYTES,
            )
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session
        await self._session.close()

    async def send(self, message: GuardMessage) -> None:
        await self.stream.send_bytes(msgspec.json.encode(message))

    async def hello(
        self, parts: dict[str, Have] | None = None, *, highest_epoch: int = 0, shares: Shares | None = None
    ) -> None:
        await self.send(Hello([document.FORMAT], highest_epoch, parts or {}, shares))

    async def next(self, kind: type[_M]) -> _M:
        """The next message of a kind; others are kept in `messages`."""
        async with asyncio.timeout(_PATIENCE):
            while True:
                frame = await self.stream.receive()
                assert frame.type is WSMsgType.TEXT, frame
                message: HubMessage = msgspec.json.decode(frame.data, type=HubMessage)
                self.messages.append(message)
                if isinstance(message, kind):
                    return message

    async def next_envelope(self) -> document.Envelope:
        return document.decode((await self.next(Part)).envelope)

    async def take(self) -> document.Envelope:
        """The next envelope, acknowledged."""
        envelope = await self.next_envelope()
        await self.send(Ack(envelope.part, envelope.epoch, envelope.revision))
        return envelope

    async def take_shares(self) -> Shares:
        """The next shares, acknowledged."""
        shares = await self.next(Shares)
        await self.send(SharesAck(shares.round))
        return shares

    def stop_reading(self) -> None:
        """Leaves everything in the socket's buffers, as a stopped process does."""
        connection = self.stream._response.connection
        assert connection
        assert connection.transport
        connection.transport.pause_reading()

    async def closed(self) -> str:
        """Waits for the hub to close; its reason."""
        async with asyncio.timeout(_PATIENCE):
            while True:
                frame = await self.stream.receive()
                if frame.type is WSMsgType.CLOSE:
                    return str(frame.extra)
                if frame.type in {WSMsgType.CLOSED, WSMsgType.ERROR}:
                    return ""
