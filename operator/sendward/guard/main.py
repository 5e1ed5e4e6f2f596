"""The guard's process: composition root, start and end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import Final

import structlog
import uvloop
from aiohttp import web

from sendward import logs, names
from sendward.clock import SystemClock
from sendward.guard import exposure, settings
from sendward.guard.contact import Contact
from sendward.guard.counters import SharedCounters
from sendward.guard.decide import State
from sendward.guard.enforcer import Enforcer
from sendward.guard.envoy import Proxy, ipv6_enabled
from sendward.guard.holding import Holding
from sendward.guard.hub_client import HubClient
from sendward.guard.limiter import Limiter
from sendward.guard.metrics import Metrics
from sendward.guard.policy import Policy
from sendward.guard.probes import Probes
from sendward.guard.server import AuthServer, Judge
from sendward.guard.settings import Settings, SettingsError
from sendward.guard.store import Mount, Store
from sendward.guard.usage import Usage

_TICK_SECONDS: Final = 1.0
_COUNTERS_SECONDS: Final = 0.5  # between two checks of the shared counters: below that between two reports
_SECRETS_TICKS: Final = 5
_SWEEP_TICKS: Final = 60  # forgotten counters, and memory kept on disk
_SHARES_SECONDS: Final = 3.0  # after the start: a hub whose other guards hold everything has none to give
_DRAIN_SECONDS: Final = 25.0  # Envoy ends first; below the default grace period
_DRAIN_POLL_SECONDS: Final = 0.2
_EXIT_USAGE: Final = 2

log = structlog.get_logger(__name__)


class Guard:
    """All parts of one guard, put together."""

    def __init__(self, config: Settings) -> None:
        self._config = config
        for name in (names.PATH_RUN, names.PATH_STATE):
            config.path(name).mkdir(parents=True, exist_ok=True, mode=0o700)
        self.state = State(Policy(), Limiter())
        self.store = Store(config.document_key, config.gateway_uid, config.path(names.PATH_STATE))
        self.contact = Contact(self.store.memory, SystemClock())
        self.proxy = Proxy(config)
        self.metrics = Metrics(config.namespace, self._used)
        holding = Holding(config.path(names.PATH_RUN))
        self.counters = SharedCounters(config.gateway_uid, config.path(names.PATH_COUNTERS))
        self.enforcer = Enforcer(
            self.state, self.store, self.proxy, self.metrics, self.contact, holding, self.counters
        )
        self._started = time.monotonic()
        usage = Usage()
        judge = Judge(self.state, usage, self.metrics, self.counters)
        self.server = AuthServer(judge, config.path(names.PATH_GUARD_SOCKET))
        self.hub = HubClient(config, self.enforcer, usage, self.contact, self.counters)
        self._mount = Mount(config.path(names.PATH_DOCUMENT))
        self._offers: set[asyncio.Task[None]] = set()
        self._runners: list[web.AppRunner] = []
        self._stopping = False
        self._bind_metrics()

    def _bind_metrics(self) -> None:
        metrics, state = self.metrics, self.state
        metrics.on_scrape(metrics.document_age, self.contact.age)
        metrics.on_scrape(metrics.hub_connected, lambda: float(self.hub.connected))
        metrics.on_scrape(metrics.shares_unsynced, lambda: float(self.enforcer.guesses))
        metrics.on_scrape(metrics.limit_subjects, lambda: float(len(state.limiter)))
        metrics.on_scrape(metrics.counters_reachable, lambda: float(self.counters.reachable))
        metrics.on_scrape(metrics.missing_shards, lambda: float(len(state.policy.missing)))

    def _used(self) -> tuple[float, int] | None:
        """Of the limits, as far as this guard counts by itself."""
        return None if self.state.term else self.state.limiter.used(time.monotonic_ns())

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set and Envoy has ended."""
        self.proxy.prepare()
        self._offer_all(self.store.read_disk())
        self._offer_all(self._mount.changed())
        await self.server.start()
        await self._start_metrics()
        await self._start_probes()
        work = (self.hub.run(), self._tick(), self._check_counters())
        background = [asyncio.create_task(each) for each in work]
        stopped = asyncio.create_task(stop.wait())
        try:
            # A background task that ends is a bug: better to restart than to serve half alive.
            done, _ = await asyncio.wait([*background, stopped], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()
            await self._drain()
            await self.hub.leave()
        finally:
            for task in (*background, stopped, *self._offers):
                task.cancel()
            await asyncio.gather(*background, stopped, *self._offers, return_exceptions=True)
            await self._close()

    def _offer_all(self, parts: list[bytes]) -> None:
        for raw in parts:
            task = asyncio.create_task(self.enforcer.offer_local(raw))
            self._offers.add(task)
            task.add_done_callback(self._offers.discard)

    async def _tick(self) -> None:
        ticks = 0
        while True:
            self.enforcer.check_age()
            if self.state.stale and not self.hub.connected:
                self.enforcer.give_up_shares()
            if time.monotonic() - self._started >= _SHARES_SECONDS:
                self.enforcer.guess_share()
            self._offer_all(self._mount.changed())
            ticks += 1
            if ticks % _SECRETS_TICKS == 0:
                self._retry_secrets()
            if ticks % _SWEEP_TICKS == 1:
                self.state.limiter.sweep(time.monotonic_ns())
                self.metrics.keep(self.state.policy.accounts())
                await self.enforcer.persist_memory()
            await asyncio.sleep(_TICK_SECONDS)

    async def _check_counters(self) -> None:
        while True:
            await self.counters.check()
            await self.enforcer.begin_term(self.state.term)  # anew, if they were flushed
            await asyncio.sleep(_COUNTERS_SECONDS)

    def _retry_secrets(self) -> None:
        try:
            self.proxy.retry_secrets()
        except OSError as error:
            log.error("Envoy's files cannot be written", error=str(error))

    async def _drain(self) -> None:
        """Envoy is told to end before us and still asks for decisions; wait until it is gone."""
        self._stopping = True
        until = time.monotonic() + _DRAIN_SECONDS
        while time.monotonic() < until and await self.proxy.admin.get("/ready") is not None:  # noqa: ASYNC110  another process
            await asyncio.sleep(_DRAIN_POLL_SECONDS)

    async def _start_metrics(self) -> None:
        async def scrape(_request: web.Request) -> web.Response:
            return web.Response(body=self.metrics.text(), content_type="text/plain", charset="utf-8")

        application = web.Application()
        application.router.add_get("/metrics", scrape)
        path = self._config.path(names.PATH_METRICS_SOCKET)
        path.unlink(missing_ok=True)
        runner = await self._runner(application)
        await web.UnixSite(runner, str(path)).start()
        path.chmod(0o600)

    async def _start_probes(self) -> None:
        probes = Probes(self._not_started, self._not_ready, self._config.app_probes)
        runner = await self._runner(probes.application())
        hosts = ["0.0.0.0", "::"] if ipv6_enabled() else ["0.0.0.0"]  # noqa: S104  the kubelet dials the pod's address
        for host in hosts:
            await web.TCPSite(runner, host, self._config.probe_port).start()

    async def _runner(self, application: web.Application) -> web.AppRunner:
        runner = web.AppRunner(application, access_log=None, handle_signals=False)
        await runner.setup()
        self._runners.append(runner)
        return runner

    async def _not_started(self) -> list[str]:
        started = self.proxy.prepared and self.server.listening
        return [] if started else ["Starting"]

    async def _not_ready(self) -> list[str]:
        """Every reason why this pod must get no traffic."""
        gateway = self.enforcer.gateway
        if self._stopping:
            return ["Stopping"]
        if gateway is None:
            return ["NoDocument"]
        reasons = []
        if self.state.policy.missing:
            reasons.append("ShardsMissing")
        if self.state.stale:
            reasons.append("GatewayReplaced" if self.store.memory.replaced else "DocumentStale")
        if gateway.deleted:
            reasons.append("GatewayDeleted")
        if not self.enforcer.limits_known:
            reasons.append("SharesPending")
        if gateway.refuse_exposure and exposure.exposed(gateway.application_port, exposure.read_tables()):
            reasons.append("ApplicationExposed")
        proxy = await self.proxy.unready()
        return [*reasons, proxy] if proxy else reasons

    async def _close(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
        await self.server.stop()
        await self.counters.close()
        await self.proxy.admin.close()
        await self.enforcer.persist_memory()
        self.enforcer.close()


async def _serve(config: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Guard(config).run(stop)


def run() -> None:
    """Entry point of `sendward guard`."""
    logs.setup()
    try:
        config = settings.load(os.environ)
    except SettingsError as error:
        log.error("settings are unreadable", reason=str(error))
        sys.exit(_EXIT_USAGE)
    log.info("guard starts", gateway=config.gateway, pod=config.pod, version=names.VERSION)
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(config))
