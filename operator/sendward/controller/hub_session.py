"""One stream between the hub and one guard.

What is to be sent is computed when the connection has room, from what the guard lacks: there is no
queue, so a slow guard costs nothing but its own delay, and after `_SEND_SECONDS` its connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec
import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from sendward import document
from sendward.clock import Clock
from sendward.controller import hub_metrics as metrics
from sendward.controller.hub_auth import Peer
from sendward.controller.hub_state import highest_epoch
from sendward.protocol import MAX_MESSAGE_BYTES, GuardMessage, Hello

_HELLO_SECONDS: Final = 10.0
_SEND_SECONDS: Final = 10.0
_HEARTBEAT_SECONDS: Final = 4.0  # a guard is cut off half as long after an unanswered ping
_CLOSE_SECONDS: Final = 2.0
_MESSAGES_PER_SECOND: Final = 200.0  # far above one report and the answers to all parts
_BURST: Final = 1000.0

_log = structlog.get_logger(__name__)
_decoder: Final = msgspec.json.Decoder(GuardMessage)


class Events(Protocol):
    """What a session tells the hub. All are called in the event loop and return at once."""

    def on_hello(self, session: Session, hello: Hello) -> None: ...

    def on_message(self, session: Session, message: GuardMessage) -> None: ...

    def on_end(self, session: Session) -> None:
        """Before the connection is closed; nothing is sent or read any more."""


class Session:
    """Authenticated, from the upgrade to the end. `stop` ends it with a reason."""

    def __init__(
        self, peer: Peer, events: Events, next_frame: Callable[[Session], bytes | None], clock: Clock
    ) -> None:
        self.peer = peer
        self.sent: dict[str, tuple[int, int]] = {}  # part to order, on this connection
        self.greeted = False
        self._events = events
        self._next_frame = next_frame
        self._clock = clock
        self._wake = asyncio.Event()
        self._stopped: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._credit, self._credit_at = _BURST, clock.monotonic()

    def wake(self) -> None:
        """There may be something to send."""
        self._wake.set()

    def stop(self, reason: str) -> None:
        """End the stream; the first reason counts."""
        if not self._stopped.done():
            self._stopped.set_result(reason)

    async def run(self, request: web.Request) -> web.WebSocketResponse:
        """Serve the request until the stream ends. Called once."""
        socket = web.WebSocketResponse(
            max_msg_size=MAX_MESSAGE_BYTES,
            heartbeat=_HEARTBEAT_SECONDS,
            timeout=_CLOSE_SECONDS,
            compress=False,
        )
        tasks: list[asyncio.Task[None]] = []
        try:
            await socket.prepare(request)
            tasks = [
                asyncio.create_task(self._guarded(self._read, socket)),
                asyncio.create_task(self._guarded(self._write, socket)),
            ]
            reason = await self._until_stopped()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.stop("Disconnected")
            metrics.CLOSED.labels(self._stopped.result()).inc()
            self._events.on_end(self)
        await self._close(request, socket, reason)
        return socket

    async def _until_stopped(self) -> str:
        left = self.peer.expires - self._clock.now().timestamp()
        try:
            async with asyncio.timeout(max(left, 0)):
                return await asyncio.shield(self._stopped)
        except TimeoutError:
            self.stop("TokenExpired")
            return self._stopped.result()

    async def _guarded(
        self, work: Callable[[web.WebSocketResponse], Awaitable[None]], socket: web.WebSocketResponse
    ) -> None:
        """A fault in one stream ends that stream, and is seen."""
        try:
            await work(socket)
        except ConnectionError:
            self.stop("Disconnected")
        except Exception as error:  # noqa: BLE001  # one guard must not take the hub down
            _log.error("stream failed", pod=self.peer.pod.name, error=type(error).__name__)
            self.stop("InternalError")

    async def _read(self, socket: web.WebSocketResponse) -> None:
        while True:
            try:
                async with asyncio.timeout(None if self.greeted else _HELLO_SECONDS):
                    frame = await socket.receive()
            except TimeoutError:
                return self.stop("NoHello")
            if frame.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
                return self.stop("Disconnected")
            if not self._has_credit():
                return self.stop("TooManyMessages")
            try:
                message = _decoder.decode(frame.data)
            except (ValueError, RecursionError):  # no JSON, no UTF-8, no message, or nested too deeply
                return self.stop("Malformed")
            bounded = not isinstance(message, Hello) or highest_epoch(message) is not None
            if not bounded or isinstance(message, Hello) is self.greeted:
                return self.stop("Malformed")
            if not isinstance(message, Hello):
                self._events.on_message(self, message)
            elif document.FORMAT in message.formats:
                self.greeted = True
                self._events.on_hello(self, message)
                self.wake()
            else:
                return self.stop("NoCommonFormat")

    async def _write(self, socket: web.WebSocketResponse) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self.greeted and (frame := self._next_frame(self)) is not None:
                try:
                    async with asyncio.timeout(_SEND_SECONDS):
                        await socket.send_frame(frame, WSMsgType.TEXT)
                except TimeoutError:
                    return self.stop("TooSlow")

    def _has_credit(self) -> bool:
        now = self._clock.monotonic()
        self._credit = min(self._credit + (now - self._credit_at) * _MESSAGES_PER_SECOND, _BURST) - 1
        self._credit_at = now
        return self._credit >= 0

    async def _close(self, request: web.Request, socket: web.WebSocketResponse, reason: str) -> None:
        """A guard that does not take its close frame is cut off."""
        try:
            async with asyncio.timeout(2 * _CLOSE_SECONDS):
                await socket.close(code=WSCloseCode.GOING_AWAY, message=reason.encode(), drain=False)
        except (TimeoutError, ConnectionError):
            pass
        finally:
            if reason == "TooSlow" and request.transport is not None:
                request.transport.abort()
