"""A tamper proxy: stands in front of kube-apiserver or Vault, passes everything on, and fails on demand.

    ledger = Ledger()
    async with TamperProxy("kube", url, ledger, upstream_tls=..., serve_tls=...) as kube:
        ledger.rules.append(Rule(call_number(7), after=kill, lose=True))

Proxies that share a ledger share its numbering and its rules. Rules are data, may be added and removed at
any time, and the first that picks a call or an event decides. HTTP/1.1 only; clients authenticate by
header, since a client certificate ends here.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from aiohttp import web

from tests.faults.proxy_calls import Call, Server, Sort, kube_call, vault_call
from tests.faults.proxy_rules import Event, Hook, Ledger, Rule

_HOP_BY_HOP: Final = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "content-length"}
_PARSE: Final = {"kube": kube_call, "vault": vault_call}
_UPSTREAM_IDLE_SECONDS: Final = 15.0  # below the servers' own


class _Stream:
    """An open watch; what goes to the client passes through `lines`, None ends it."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue()


class TamperProxy:
    """`async with`; `url` is where clients go. `streams` are the open watches.

    `upstream_tls` and `serve_tls` are for https; without `serve_tls` it serves http.
    """

    def __init__(
        self,
        server: Server,
        upstream: str,
        ledger: Ledger,
        *,
        host: str = "127.0.0.1",
        upstream_tls: ssl.SSLContext | None = None,
        serve_tls: ssl.SSLContext | None = None,
    ) -> None:
        self.ledger = ledger
        self.url = ""
        self.streams: set[_Stream] = set()
        self._server: Server = server
        self._upstream = upstream.rstrip("/")
        self._upstream_tls = upstream_tls
        self._serve_tls = serve_tls
        self._host = host
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._under_way: set[asyncio.Task[web.Response | None]] = set()

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.down()

    async def up(self) -> None:
        """Listen; after `down` at the same address."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ssl=self._upstream_tls or True, keepalive_timeout=_UPSTREAM_IDLE_SECONDS
            ),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_route("*", "/{tail:.*}", self._serve)
        # A client that is gone ends its watch; calls that change something run on, see `_serve`.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, self._host, self._port, ssl_context=self._serve_tls, reuse_address=True
        )
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"{'https' if self._serve_tls else 'http'}://{self._host}:{self._port}"

    async def down(self) -> None:
        """Refuse connections and break those that are open, as a dead server does."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()
        self._runner = self._session = None

    # --- watches that are open ------------------------------------------------------------------

    def cut(self, kind: str = "") -> int:
        """End the open watches of a kind (default all); how many there were."""
        return self._send_all(kind, None)

    def send_error(self, code: int, kind: str = "") -> int:
        """An ERROR event into the open watches of a kind (default all); how many there were."""
        return self._send_all(kind, error_event(code))

    def _send_all(self, kind: str, line: bytes | None) -> int:
        chosen = [stream for stream in self.streams if kind in ("", stream.call.kind)]
        for stream in chosen:
            stream.lines.put_nowait(line)
        return len(chosen)

    # --- requests -------------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        call = _PARSE[self._server](request.method, request.path, request.query, body)
        self.ledger.note(call)
        rule = self.ledger.rule(call)
        if call.sort is Sort.WATCH and (rule is None or not (rule.reset or rule.answer)):
            await _hold_up(rule, call)
            return await self._watch(request, call)
        # A server carries out what it has received, whether its client still lives or not.
        task = asyncio.create_task(self._carry_out(request, call, body, rule))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        answer = await asyncio.shield(task)
        if answer is None:
            return _break(request)
        return answer

    async def _carry_out(
        self, request: web.Request, call: Call, body: bytes, rule: Rule | None
    ) -> web.Response | None:
        """The answer, None when the client shall get none."""
        await _hold_up(rule, call)
        if rule is not None and rule.reset:
            return None
        if rule is not None and rule.answer:
            call.status = rule.answer
            answer: web.Response | None = _refusal(self._server, rule)
        else:
            answer = await self._forward(request, call, body)
            if rule is not None and rule.twice:
                await self._forward(request, call, body)
        if rule is not None and rule.after is not None:
            await _run(rule.after, call)
        return None if rule is not None and rule.lose else answer

    async def _forward(self, request: web.Request, call: Call, body: bytes) -> web.Response | None:
        try:
            async with self._ask(request, body) as got:
                content = await got.read()
        except aiohttp.ClientError:
            return None
        call.status = call.status or got.status
        return web.Response(status=got.status, body=content, headers=_passed(got.headers))

    def _ask(self, request: web.Request, body: bytes | None = None) -> Any:
        if self._session is None:
            raise aiohttp.ClientConnectionError("the proxy is down")
        return self._session.request(
            request.method,
            self._upstream + request.raw_path,
            data=body or None,
            headers=[(n, v) for n, v in request.headers.items() if n.lower() not in {*_HOP_BY_HOP, "host"}],
            skip_auto_headers={"User-Agent", "Content-Type", "Accept", "Accept-Encoding"},
            allow_redirects=False,
        )

    # --- watches --------------------------------------------------------------------------------

    async def _watch(self, request: web.Request, call: Call) -> web.StreamResponse:
        try:
            async with self._ask(request) as got:
                call.status = got.status
                if got.status != 200:
                    headers = _passed(got.headers)
                    return web.Response(status=got.status, body=await got.read(), headers=headers)
                response = web.StreamResponse(status=200, headers=_passed(got.headers))
                await response.prepare(request)
                await self._stream(call, got.content, response)
                return response
        except (aiohttp.ClientError, ConnectionError):
            return _break(request)

    async def _stream(self, call: Call, source: aiohttp.StreamReader, response: web.StreamResponse) -> None:
        stream = _Stream(call)
        self.streams.add(stream)
        pump = asyncio.create_task(self._pump(source, stream))
        try:
            while (line := await stream.lines.get()) is not None:
                await response.write(line)
        finally:
            self.streams.discard(stream)
            pump.cancel()
            with suppress(asyncio.CancelledError):
                await pump

    async def _pump(self, source: aiohttp.StreamReader, stream: _Stream) -> None:
        pending = b""
        swapped = b""
        try:
            async for chunk in source.iter_any():
                *complete, pending = (pending + chunk).split(b"\n")
                for line in complete:
                    act = await self._judge(stream.call.kind, line)
                    if act == "cut":
                        return
                    if act == "swap":
                        swapped += line + b"\n"
                    elif act != "drop":
                        stream.lines.put_nowait((line + b"\n") * (2 if act == "double" else 1) + swapped)
                        swapped = b""
        except aiohttp.ClientError:
            pass  # the server is gone: so is the stream
        finally:
            stream.lines.put_nowait(None)

    async def _judge(self, kind: str, line: bytes) -> str:
        if not self.ledger.watch_rules:
            return "pass"
        found = json.loads(line)
        meta = found["object"].get("metadata", {})
        event = Event(kind, found["type"], meta.get("namespace", ""), meta.get("name", ""), line)
        rule = self.ledger.watch_rule(event)
        if rule is None:
            return "pass"
        if rule.hold is not None:
            await rule.hold.wait()
        await asyncio.sleep(rule.delay)
        return rule.act


def error_event(code: int) -> bytes:
    """A line of a watch that says what went wrong, as the API server writes it."""
    return json.dumps({"type": "ERROR", "object": _status(code)}).encode() + b"\n"


async def _hold_up(rule: Rule | None, call: Call) -> None:
    if rule is None:
        return
    if rule.hold is not None:
        await rule.hold.wait()
    if rule.delay:
        await asyncio.sleep(rule.delay)
    if rule.before is not None:
        await _run(rule.before, call)


async def _run(hook: Hook, call: Call) -> None:
    waited = hook(call)
    if waited is not None:
        await waited


def _break(request: web.Request) -> web.Response:
    """The connection ends by RST, without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _passed(headers: Any) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP]


def _refusal(server: Server, rule: Rule) -> web.Response:
    standard = _status(rule.answer) if server == "kube" else {"errors": [f"injected {rule.answer}"]}
    headers = {"Retry-After": rule.retry_after} if rule.retry_after else {}
    body = rule.body or json.dumps(standard).encode()
    return web.Response(status=rule.answer, body=body, headers=headers, content_type="application/json")


def _status(code: int) -> dict[str, Any]:
    reasons = {403: "Forbidden", 409: "Conflict", 410: "Expired", 429: "TooManyRequests"}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"injected {code}",
        "reason": reasons.get(code, "InternalError"),
        "code": code,
    }
