"""Health, readiness and metrics of the operator over HTTP, on the pod's own port."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest

from sendward.apply.informer import Informer

# Bookmarks come about once a minute: a longer silence of a watch means that we are deaf.
_SILENCE: Final = 300.0


class Probes:
    """/healthz: no watch is deaf. /readyz: everything was listed; a standby is ready too. /metrics."""

    def __init__(
        self, registry: CollectorRegistry, listed: Callable[[], bool], informers: Sequence[Informer]
    ) -> None:
        self._registry = registry
        self._listed = listed
        self._informers = informers
        self._runner: web.AppRunner | None = None

    async def start(self, port: int) -> None:
        """Listen on all addresses of the pod."""
        app = web.Application()
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, None, port).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _health(self, _: web.Request) -> web.Response:
        deaf = [i for i in self._informers if i.ready.is_set() and i.last_event_age() > _SILENCE]
        return web.Response(status=503 if deaf else 200, text="a watch is silent\n" if deaf else "ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        ready = self._listed() and all(informer.ready.is_set() for informer in self._informers)
        return web.Response(status=200 if ready else 503, text="ok\n" if ready else "listing\n")

    async def _metrics(self, _: web.Request) -> web.Response:
        text = generate_latest(self._registry) + generate_latest(REGISTRY)
        return web.Response(body=text, content_type="text/plain")
