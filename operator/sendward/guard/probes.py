"""The probe port: the guard's own start and readiness, and the application's probes.

The kubelet dials the pod's address, where the application does not listen; so the webhook turns its
network probes here, and the guard dials loopback in its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import aiohttp
from aiohttp import web

from sendward.guard.settings import AppProbe

_LOOPBACK: Final = "127.0.0.1"
_PROBE_SECONDS: Final = 30.0  # the kubelet's own timeout is shorter as a rule

Reasons = Callable[[], Awaitable[list[str]]]


class Probes:
    """`not_started` and `not_ready` give the reasons why not; no reason means yes."""

    def __init__(self, not_started: Reasons, not_ready: Reasons, app_probes: Mapping[str, AppProbe]) -> None:
        self._not_started = not_started
        self._not_ready = not_ready
        self._app_probes = app_probes
        self._session: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        """The HTTP application."""
        application = web.Application()
        application.router.add_get("/startup", self._startup)
        application.router.add_get("/ready", self._ready)
        application.router.add_get("/app/{container}/{probe}", self._app)
        application.on_cleanup.append(self._close)
        return application

    async def _startup(self, _request: web.Request) -> web.Response:
        return _answer(await self._not_started())

    async def _ready(self, _request: web.Request) -> web.Response:
        return _answer(await self._not_ready())

    async def _app(self, request: web.Request) -> web.Response:
        name = f"{request.match_info['container']}/{request.match_info['probe']}"
        probe = self._app_probes.get(name)
        if probe is None:
            return web.Response(status=404)
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                return web.Response(status=await self._dial(probe))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            return web.json_response({"reason": type(error).__name__}, status=503)

    async def _dial(self, probe: AppProbe) -> int:
        if probe.tcp:
            _, writer = await asyncio.open_connection(_LOOPBACK, probe.port)
            writer.close()
            return 200
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=False, force_close=True),  # as the kubelet: unverified
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        path = probe.path if probe.path.startswith("/") else f"/{probe.path}"
        async with self._session.get(
            f"{probe.scheme.lower()}://{_LOOPBACK}:{probe.port}{path}",
            headers=[(header.name, header.value) for header in probe.headers],
            allow_redirects=False,
        ) as answer:
            return answer.status

    async def _close(self, _application: web.Application) -> None:
        if self._session is not None:
            await self._session.close()


def _answer(reasons: list[str]) -> web.Response:
    return web.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)
