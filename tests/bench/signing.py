"""The signing check beside the native chain: an ext_authz server that verifies an HMAC and nothing else.

`python -m tests.bench.signing SOCKET SECRET`. What Envoy's own filters cannot do, in its smallest form:
time window, nonce seen once, HMAC-SHA256 over method, path, time, nonce and the body's digest.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import sys
import time
from typing import Final, cast

import httptools
import uvloop

_WINDOW_SECONDS: Final = 300
_ALLOW: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_DENY: Final = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"


class Checker:
    """Verifies requests; remembers the nonces of one window."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._seen: set[bytes] = set()
        self._before: set[bytes] = set()
        self._turned = time.monotonic()

    def passes(self, method: bytes, target: bytes, headers: dict[bytes, bytes], body: bytes) -> bool:
        """Whether the request is signed, recent, and not a repetition."""
        stamp, nonce = headers.get(b"x-timestamp", b""), headers.get(b"x-nonce", b"")
        if not stamp.isdigit() or abs(time.time() - int(stamp)) > _WINDOW_SECONDS:
            return False
        digest = hashlib.sha256(body).hexdigest().encode()
        text = b"\n".join((method, target, stamp, nonce, digest))
        expected = hmac.digest(self._secret, text, "sha256").hex().encode()
        if not hmac.compare_digest(expected, headers.get(b"x-signature", b"")):
            return False
        if time.monotonic() - self._turned > _WINDOW_SECONDS:
            self._before, self._seen, self._turned = self._seen, set(), time.monotonic()
        if nonce in self._seen or nonce in self._before:
            return False
        self._seen.add(nonce)
        return True


class _Connection(asyncio.Protocol):
    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._target = self._body = b""
        self._headers: dict[bytes, bytes] = {}

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name] = value

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        good = self._checker.passes(self._parser.get_method(), self._target, self._headers, self._body)
        self._transport.write(_ALLOW if good else _DENY)


async def _serve(path: str, secret: bytes) -> None:
    checker = Checker(secret)
    server = await asyncio.get_running_loop().create_unix_server(lambda: _Connection(checker), path)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], sys.argv[2].encode()))
