"""The ext_authz server: HTTP/1.1 over a Unix socket, one decision a request.

Requests of one connection are answered in order, pipelined or not. Whatever arrives gets an answer
or a closed connection; no exception leaves this module.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, cast

import httptools
import structlog

from sendward import names
from sendward.guard.decide import Case, Decision, Now, State, conclude, decide
from sendward.guard.limiter import Admission, Limits
from sendward.guard.metrics import Metrics
from sendward.guard.request import RawRequest, Source, source
from sendward.guard.response import response
from sendward.guard.usage import Usage
from sendward.protocol import is_of_place
from sendward.verdict import Reason, Verdict

MAX_BODY_BYTES: Final = 2 * 1024 * 1024  # above what any gateway may declare; Envoy refuses before
MAX_HEAD_BYTES: Final = 128 * 1024
_SOURCE: Final = names.HEADER_SOURCE.encode()
_JUDGED: Final = frozenset(name.encode() for name in names.HEADERS_JUDGED)

log = structlog.get_logger(__name__)


class Counters(Protocol):
    """What all guards of the gateway count together."""

    @property
    def place(self) -> str:
        """Which counters answer now; a term begins with the place that it is of."""

    async def admit(
        self, term: str, wanted: Sequence[tuple[str, Limits]], cost: int, *, audit: bool = False
    ) -> Admission | None:
        """Charge them; None when there is no answer in time."""


class Judge:
    """Turns requests into answers, and counts them."""

    def __init__(self, state: State, usage: Usage, metrics: Metrics, counters: Counters) -> None:
        self.state = state
        self._usage = usage
        self._metrics = metrics
        self._counters = counters

    def answer(self, raw: RawRequest, *, close: bool) -> bytes | Coroutine[Any, Any, bytes]:
        """The response to one request, to be awaited if shared counters are asked; never raises."""
        started = time.perf_counter()
        now = Now(int(time.time()), time.monotonic_ns())
        try:
            found = decide(self.state, raw, _source(raw), now)
        except Exception as error:  # noqa: BLE001  whatever it is, the answer is no
            found = _failed(error)
        if isinstance(found, Case):
            return self._answer_later(found, raw, close, started)
        return self._finish(found, raw, close, started, now.unix)

    async def _answer_later(self, case: Case, raw: RawRequest, close: bool, started: float) -> bytes:
        state, term = self.state, self.state.term
        try:
            admission = None
            if is_of_place(term, self._counters.place):
                admission = await self._counters.admit(term, case.wanted, case.cost, audit=case.audits)
            # Whoever has left the counters meanwhile has said so: by then others may use up the limit.
            decision = conclude(case, admission if state.term == term else None)
        except Exception as error:  # noqa: BLE001
            decision = _failed(error)
        return self._finish(decision, raw, close, started, case.now.unix)

    def _finish(self, decision: Decision, raw: RawRequest, close: bool, started: float, unix: int) -> bytes:
        self._usage.record(decision, unix)
        self._metrics.record(decision, time.perf_counter() - started)
        return response(decision, raw, close=close)

    def malformed(self) -> bytes:
        """The response to what is no HTTP request, or one beyond all bounds."""
        decision = Decision(Verdict.DENY, Reason.MalformedRequest)
        self._metrics.record(decision, 0.0)
        return response(decision, None, close=True)


def _failed(error: Exception) -> Decision:
    log.error("decision failed", error=type(error).__name__)
    return Decision(Verdict.DENY, Reason.InternalError)


def _source(raw: RawRequest) -> Source | None:
    found = [value for name, value in raw.headers if name == _SOURCE]
    return source(found[0].decode("latin-1")) if len(found) == 1 else None


class AuthProtocol(asyncio.Protocol):
    """One connection of Envoy."""

    def __init__(self, judge: Judge, connections: set[AuthProtocol]) -> None:
        self._judge = judge
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._last: asyncio.Task[None] | None = None  # the last answer that waits for shared counters
        self._slow = False  # Envoy does not take what was written
        self._over = False  # the last answer ends the connection: nothing after it is judged
        self.on_message_begin()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class is no subclass
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._connections.discard(self)

    def pause_writing(self) -> None:
        self._slow = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._slow = False
        self._read_on()

    def _read_on(self) -> None:
        """Unless answers are not taken, or still to come."""
        if self._slow or self._last is not None or self._transport is None:
            return
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # the answer to the request itself is the last one; there is nothing to upgrade to
        except httptools.HttpParserError:
            self._refuse()

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._head_bytes = 0
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._head_bytes += len(url)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse()

    def on_header(self, name: bytes, value: bytes) -> None:
        # The busiest lines of the guard, several times a request: no further call in them.
        name = name.lower()
        if name in _JUDGED:
            self._headers.append((name, value))
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > MAX_BODY_BYTES:
            self._refuse()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._over or self._transport is None or self._transport.is_closing():
            return
        close = not self._parser.should_keep_alive() or self._parser.should_upgrade()
        raw = RawRequest(
            self._parser.get_method().decode("ascii"), self._target, self._headers, b"".join(self._body)
        )
        self._answer(self._judge.answer(raw, close=close), close=close)

    def _refuse(self) -> None:
        if not self._over and self._transport is not None and not self._transport.is_closing():
            self._answer(self._judge.malformed(), close=True)

    def _answer(self, answer: bytes | Coroutine[Any, Any, bytes], *, close: bool) -> None:
        """In the order of the requests: at once, unless this answer or an earlier one is awaited."""
        self._over = close
        if isinstance(answer, bytes) and self._last is None:
            self._write(answer, close=close)
            return
        if self._last is not None and self._transport is not None:
            self._transport.pause_reading()  # Envoy asks one after the other; nobody else may pile them up
        self._last = asyncio.create_task(self._in_turn(self._last, answer, close=close))

    async def _in_turn(
        self, previous: asyncio.Task[None] | None, answer: bytes | Coroutine[Any, Any, bytes], *, close: bool
    ) -> None:
        data: bytes | None = None
        try:
            data = answer if isinstance(answer, bytes) else await answer
        except Exception as error:  # noqa: BLE001  nobody else would see it, and the requests after it wait
            log.error("answer failed", error=type(error).__name__)
        try:
            if previous is not None:
                await previous
            if data is None:
                self.close()
            else:
                self._write(data, close=close)
        finally:
            if self._last is asyncio.current_task():
                self._last = None
                self._read_on()

    def _write(self, data: bytes, *, close: bool) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
            if close:
                self._transport.close()

    def close(self) -> None:
        """End the connection, after what was written is sent."""
        if self._transport is not None:
            self._transport.close()


class AuthServer:
    """Listens on a Unix socket that only our own UID may open."""

    def __init__(self, judge: Judge, path: Path) -> None:
        self._judge = judge
        self._path = path
        self._connections: set[AuthProtocol] = set()
        self._server: asyncio.Server | None = None

    @property
    def listening(self) -> bool:
        """Whether Envoy can reach it."""
        return self._server is not None and self._server.is_serving()

    async def start(self) -> None:
        """Listen; a socket file that a killed predecessor left is replaced."""
        self._path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.get_running_loop().create_unix_server(
                lambda: AuthProtocol(self._judge, self._connections), str(self._path)
            )
        finally:
            os.umask(mask)

    async def stop(self) -> None:
        """Stop listening and end all connections."""
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.close()
