"""The stream to the hub: parts and shares come in; acknowledgements and usage go out.

The hub's name resolves to every replica of the operator; only the leader accepts, a standby answers
503, so each address is tried in turn. CA and token are read again for each connection.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import Coroutine
from typing import Any, Final

import aiohttp
import msgspec
import structlog
from aiohttp import WSMsgType
from aiohttp.abc import AbstractResolver, ResolveResult

from sendward import document, names, protocol
from sendward.guard.contact import Contact
from sendward.guard.counters import SharedCounters
from sendward.guard.enforcer import Enforcer
from sendward.guard.settings import Settings
from sendward.guard.usage import Usage
from sendward.protocol import GuardMessage, Hello, HubMessage, Leave, Part, Shares, SharesAck

_CONNECT_SECONDS: Final = 3.0
_SILENCE_SECONDS: Final = 5.0  # a hub that answers no ping for so long is gone
_CLOSE_SECONDS: Final = 1.0
_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 5.0
_STANDBY: Final = 503

log = structlog.get_logger(__name__)


class _OneAddress(AbstractResolver):
    """Dials one address under the hub's name, so that TLS still verifies the name."""

    def __init__(self, address: str, family: int) -> None:
        self._address = address
        self._family = family

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:  # noqa: ARG002
        return [
            ResolveResult(
                hostname=host,
                host=self._address,
                port=port,
                family=self._family,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        """Nothing is held."""


class HubClient:
    """Keeps one stream open, for as long as `run` is not cancelled."""

    def __init__(
        self, settings: Settings, enforcer: Enforcer, usage: Usage, contact: Contact, counters: SharedCounters
    ) -> None:
        self._settings = settings
        self._enforcer = enforcer
        self._usage = usage
        self._contact = contact
        self._counters = counters
        self._tasks: set[asyncio.Task[None]] = set()
        self._limiting = asyncio.Lock()  # one message of shares after the other
        self.connected = False
        self._open: aiohttp.ClientWebSocketResponse | None = None  # the stream, while connected
        self._left = False

    async def run(self) -> None:
        """Connect, and again whenever the stream ends."""
        wait = _FIRST_WAIT
        while not self._left:
            if await self._try_all():
                wait = _FIRST_WAIT
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311  jitter
            wait = min(_LONGEST_WAIT, wait * 2)

    async def leave(self) -> None:
        """Give our shares back, for others to use; without a stream they are kept for a successor."""
        stream = self._open
        if stream is None:
            return
        self._left = True
        try:
            await _send(stream, Leave(self._enforcer.end()))
            await stream.close()
        except (OSError, aiohttp.ClientError) as error:
            log.warning("shares not given back", error=type(error).__name__)

    async def _try_all(self) -> bool:
        """Whether any address accepted; returns when that stream has ended."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                self._settings.hub_host, self._settings.hub_port, type=socket.SOCK_STREAM
            )
            tls = ssl.create_default_context(cafile=str(self._settings.path(names.PATH_HUB_CA)))
            token = self._settings.path(names.PATH_TOKEN).read_text().strip()
        except OSError as error:
            log.warning("hub not reachable", error=type(error).__name__)
            return False
        random.shuffle(found)
        for family, _, _, _, address in found:
            if await self._stream(_OneAddress(str(address[0]), family), tls, token):
                return True
        return False

    async def _stream(self, resolver: AbstractResolver, tls: ssl.SSLContext, token: str) -> bool:
        """One stream from handshake to end; False if there was no handshake."""
        url = f"wss://{self._settings.hub_host}:{self._settings.hub_port}{protocol.HUB_PATH}"
        connector = aiohttp.TCPConnector(resolver=resolver, ssl=tls, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    socket_ = await session.ws_connect(
                        url,
                        headers={"authorization": f"Bearer {token}"},
                        autoping=False,
                        max_msg_size=protocol.MAX_MESSAGE_BYTES,
                        timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_SECONDS),
                    )
            except aiohttp.WSServerHandshakeError as error:
                if error.status != _STANDBY:
                    log.warning("hub refused the stream", status=error.status)
                return False
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                log.warning("hub not reachable", error=type(error).__name__)
                return False
            log.info("hub connected")
            try:
                await self._talk(socket_)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError, RecursionError) as error:
                log.warning("hub stream ended", error=type(error).__name__)
            finally:
                self.connected, self._open = False, None
                await socket_.close()
            log.info("hub disconnected", code=socket_.close_code)
        return True

    async def _talk(self, stream: aiohttp.ClientWebSocketResponse) -> None:
        store = self._enforcer.store
        hello = Hello(
            formats=[document.FORMAT],
            highest_epoch=store.memory.highest_epoch,
            parts=store.have(),
            shares=self._enforcer.shares,
        )
        await _send(stream, hello)
        self._contact.heard()
        self.connected, self._open = True, stream
        reporter = asyncio.create_task(self._report(stream))
        try:
            await self._receive(stream)
        finally:
            reporter.cancel()
            await asyncio.gather(reporter, return_exceptions=True)

    async def _receive(self, stream: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            message = await stream.receive(timeout=_SILENCE_SECONDS)
            match message.type:
                case WSMsgType.TEXT | WSMsgType.BINARY:
                    self._contact.heard()
                    self._handle(stream, msgspec.json.decode(message.data, type=HubMessage))
                case WSMsgType.PING:
                    self._contact.heard()
                    await stream.pong(message.data)
                case WSMsgType.PONG:
                    self._contact.heard()
                case _:
                    return

    def _handle(self, stream: aiohttp.ClientWebSocketResponse, message: HubMessage) -> None:
        """Tasks: the gateway's part waits for Envoy, a term for its counters, and nothing else for these."""
        match message:
            case Part():
                self._spawn(self._take(stream, message.envelope))
            case Shares():
                self._spawn(self._limit(stream, message))

    async def _limit(self, stream: aiohttp.ClientWebSocketResponse, message: Shares) -> None:
        """In the order of the messages; acknowledged once its term has begun, or its counters failed."""
        async with self._limiting:
            if self._listens_to(stream):
                await self._enforcer.begin_term(message.term, full=message.full)
            if not self._listens_to(stream):
                return
            freed = self._enforcer.set_shares(message)
            try:
                await _send(stream, SharesAck(message.round, freed))
            except (OSError, aiohttp.ClientError):
                return  # the next Hello tells what is in force

    def _listens_to(self, stream: aiohttp.ClientWebSocketResponse) -> bool:
        """Else the guard has left, or said in another Hello what it has, and the hub counts on that."""
        return self._open is stream and not self._left

    async def _take(self, stream: aiohttp.ClientWebSocketResponse, raw: bytes) -> None:
        answer = await self._enforcer.offer(raw)
        if answer is not None and not stream.closed:
            try:
                await _send(stream, answer)
            except (OSError, aiohttp.ClientError):
                return  # the next Hello tells what is in force

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _reached(self) -> str | None:
        """Which shared counters answer; a guard that has only begun does not know."""
        unknown = self._enforcer.gateway is None or self._counters.untried
        return None if unknown else self._counters.place

    async def _report(self, stream: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await asyncio.sleep(protocol.REPORT_SECONDS)
            report = self._usage.take()
            try:
                told = msgspec.structs.replace(
                    report,
                    bursts=self._enforcer.bursts(report.demand.keys()),
                    place=self._reached(),
                )
                await _send(stream, told)
                await stream.ping()
            except (OSError, aiohttp.ClientError):
                self._usage.put_back(report)
                return


async def _send(stream: aiohttp.ClientWebSocketResponse, message: GuardMessage) -> None:
    await stream.send_str(msgspec.json.encode(message).decode())
