"""The injection webhook's process: an HTTPS server for the API server, and a plain one for probes.

Environment:
    SENDWARD_NAMESPACE     the operator's namespace (default sendward-system)
    SENDWARD_WEBHOOK_TLS   folder with tls.crt and tls.key (default /etc/sendward/webhook-tls)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from sendward import logs, names
from sendward.apply.kube import KubeClient
from sendward.webhook.certificate import ServingCertificate
from sendward.webhook.review import MalformedError, Reviewer

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
_REVIEW_SECONDS: Final = 8.0  # below the configuration's timeoutSeconds, so that the answer says why
_REFRESH_SECONDS: Final = 10.0
_SHUTDOWN_SECONDS: Final = 10.0

log = structlog.get_logger("sendward.webhook")


class Metrics:
    """The webhook's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "sendward_admission_requests",
            "Admission requests by decision: allowed, refused, error.",
            ["kind", "operation", "decision"],
            registry=self.registry,
        )
        self.duration = Histogram(
            "sendward_admission_request_duration_seconds",
            "Time from the request to its answer.",
            registry=self.registry,
        )
        self.not_after = Gauge(
            "sendward_webhook_certificate_not_after_timestamp_seconds",
            "End of the serving certificate, in Unix seconds.",
            registry=self.registry,
        )


class WebhookServer:
    """Serves until `stop`. Ports of 0 are chosen by the system; `ports` tells them."""

    def __init__(
        self,
        reviewer: Reviewer,
        certificate: ServingCertificate,
        *,
        host: str | None = None,
        port: int = names.PORT_WEBHOOK,
        probe_port: int = names.PORT_OPERATOR_PROBE,
        refresh_seconds: float = _REFRESH_SECONDS,
    ) -> None:
        self.metrics = Metrics()
        self._reviewer = reviewer
        self._certificate = certificate
        self._host = host
        self._want = (port, probe_port)
        self._refresh_seconds = refresh_seconds
        self.ports: tuple[int, int] = (0, 0)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Both servers listen inside of this context."""
        self._refresh()
        admission = web.AppRunner(self._admission(), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        probes = web.AppRunner(self._probes(), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        follow = asyncio.create_task(self._follow())
        try:
            for runner in (admission, probes):
                await runner.setup()
            await web.TCPSite(
                admission, self._host, self._want[0], ssl_context=self._certificate.context
            ).start()
            await web.TCPSite(probes, self._host, self._want[1]).start()
            self.ports = (admission.addresses[0][1], probes.addresses[0][1])
            yield
        finally:
            follow.cancel()
            await asyncio.gather(follow, return_exceptions=True)
            await admission.cleanup()
            await probes.cleanup()

    def _admission(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post(names.WEBHOOK_PATH, self._inject)
        return app

    def _probes(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _inject(self, request: web.Request) -> web.Response:
        start = time.monotonic()
        try:
            async with asyncio.timeout(_REVIEW_SECONDS):
                outcome = await self._reviewer.review(await request.read())
        except web.HTTPRequestEntityTooLarge:
            return self._failed(
                413, f"an AdmissionReview above {MAX_BODY_BYTES} bytes is refused; make the pod smaller"
            )
        except MalformedError as error:
            return self._failed(400, str(error))
        except TimeoutError:
            return self._failed(504, f"no answer from the API server in {_REVIEW_SECONDS:.0f} s; try again")
        finally:
            self.metrics.duration.observe(time.monotonic() - start)
        self.metrics.requests.labels(outcome.kind, outcome.operation, outcome.decision).inc()
        if outcome.decision != "allowed":
            log.info("pod not admitted", decision=outcome.decision, message=outcome.message)
        return web.json_response(outcome.body)

    def _failed(self, status: int, message: str) -> web.Response:
        self.metrics.requests.labels("other", "other", "error").inc()
        log.warning("request not answered", status=status, message=message)
        return web.Response(status=status, text=message)

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _readyz(self, _: web.Request) -> web.Response:
        end = self._certificate.not_after
        if end is None or end <= datetime.now(UTC):
            return web.Response(status=503, text="no valid serving certificate")
        return web.Response(text="ok")

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self.metrics.registry), content_type="text/plain")

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_seconds)
            self._refresh()

    def _refresh(self) -> None:
        try:
            loaded = self._certificate.refresh()
        except (OSError, ValueError) as error:
            log.warning("serving certificate not loaded", error=type(error).__name__)
            return
        end = self._certificate.not_after
        if loaded and end is not None:
            self.metrics.not_after.set(end.timestamp())
            log.info("serving certificate loaded", not_after=end.isoformat())


async def serve() -> None:
    """Until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    kube = KubeClient.in_cluster()
    try:
        reviewer = Reviewer(kube, os.environ.get("SENDWARD_NAMESPACE", names.OPERATOR_NAMESPACE))
        folder = os.environ.get("SENDWARD_WEBHOOK_TLS", names.PATH_WEBHOOK_TLS)
        async with WebhookServer(reviewer, ServingCertificate(Path(folder))).serving():
            await stop.wait()
    finally:
        await kube.close()


def run() -> None:
    """The `sendward webhook` process."""
    logs.setup()
    asyncio.run(serve())
