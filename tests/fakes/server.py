"""What the fake servers share: a real HTTP server on loopback, a log of requests, and faults on demand."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from aiohttp import web

What = int | Literal["drop", "lose"] | Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Fault:
    """The next `times` requests that `matches` says yes to fail.

    `status` answers without doing anything; "drop" closes the connection before, "lose" after the
    request was carried out, so that only its answer is lost. A function is awaited between the two.
    """

    what: What
    times: int = 1
    matches: Callable[[web.Request], bool] = lambda _: True
    retry_after: str | None = None
    body: str = ""


class FakeServer(ABC):
    """Use as `async with`. `requests` lists (method, path) of all requests, oldest first."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self.delay_seconds = 0.0
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_route("*", "/{tail:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def fail(
        self,
        what: What,
        *,
        times: int = 1,
        matches: Callable[[web.Request], bool] = lambda _: True,
        retry_after: str | None = None,
        body: str = "",
    ) -> None:
        """Let the next `times` matching requests fail; see `Fault`."""
        self.faults.append(Fault(what, times, matches, retry_after, body))

    def count(self, method: str, part: str = "") -> int:
        """Requests with this method whose path contains `part`."""
        return sum(1 for done, path in self.requests if done == method and part in path)

    @abstractmethod
    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        fault = next((one for one in self.faults if one.times > 0 and one.matches(request)), None)
        if fault is None:
            return await self.handle(request)
        fault.times -= 1
        return await _fail(fault, request, self.handle)


async def _fail(
    fault: Fault, request: web.Request, handle: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    if isinstance(fault.what, int):
        headers = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
        return web.Response(status=fault.what, text=fault.body, headers=headers)
    if callable(fault.what):
        answer = await handle(request)
        await fault.what()
        return answer
    if fault.what == "lose":
        await handle(request)
    if request.transport is not None:
        request.transport.close()
    return web.Response()
