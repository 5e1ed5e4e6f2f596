"""A small hub: real WebSocket over real TLS, one guard at a time, no policy of its own."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from aiohttp import WSMsgType, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sendward.protocol import HUB_PATH, GuardMessage, Hello, HubMessage

M = TypeVar("M", bound=GuardMessage)
WAIT_SECONDS = 10.0


def write_certificate(directory: Path, host: str = "localhost") -> Path:
    """A self-signed certificate for `host` in tls.crt and tls.key; returns the path to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return directory / "tls.crt"


class FakeHub:
    """Accepts guards with the right token, keeps what they say, sends what a test tells it to."""

    def __init__(self, directory: Path, token: str = "token-1") -> None:
        self.ca = write_certificate(directory)
        self._directory = directory
        self.token = token
        self.standby = False
        self.port = 0
        self.messages: list[GuardMessage] = []
        self.refused = 0
        self._socket: web.WebSocketResponse | None = None
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> None:
        application = web.Application()
        application.router.add_get(HUB_PATH, self._accept)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._directory / "tls.crt", self._directory / "tls.key")
        site = web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=context)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._socket is not None:
            await self._socket.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def send(self, message: HubMessage) -> None:
        assert self._socket is not None
        await self._socket.send_str(msgspec.json.encode(message).decode())

    async def wait_for(self, kind: type[M], where: Callable[[M], bool] = lambda _: True) -> M:
        """The first message of a kind that fits, past or future."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                for message in self.messages:
                    if isinstance(message, kind) and where(message):
                        return message
                self._changed.clear()
                await self._changed.wait()

    async def _accept(self, request: web.Request) -> web.StreamResponse:
        if self.standby:
            self.refused += 1
            return web.Response(status=503)
        if request.headers.get("authorization") != f"Bearer {self.token}":
            self.refused += 1
            return web.Response(status=401)
        socket = web.WebSocketResponse(autoping=True)
        await socket.prepare(request)
        self._socket = socket
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                decoded = msgspec.json.decode(message.data, type=GuardMessage)
                if isinstance(decoded, Hello):
                    self.messages = [m for m in self.messages if not isinstance(m, Hello)]
                self.messages.append(decoded)
                self._changed.set()
        return socket
