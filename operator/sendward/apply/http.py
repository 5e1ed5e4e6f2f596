"""One HTTP connection pool to one server: in-flight cap, time-outs, bounded answers.

Network faults become `Unavailable`; statuses are judged by the clients (`kube`, `vault`), because
each server says the same thing in another way. Request and answer bodies never enter a message.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from sendward.errors import Unavailable

_IDLE_SECONDS: Final = 30.0  # below the servers' own idle time-outs, else a POST meets a closed socket
_MESSAGE_LIMIT: Final = 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said. `body` may hold secrets, so it has no place in a repr."""

    status: int
    retry_after: float | None
    body: bytes

    def __repr__(self) -> str:
        return f"Answer(status={self.status})"


class TokenFile:
    """A bearer token on disk, read again when the file changes (the kubelet swaps it by rename)."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._stamp: tuple[int, int] | None = None
        self._token = ""

    def read(self) -> str:
        """The token; raises Unavailable when the file cannot be read."""
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino)
            if stamp != self._stamp:
                self._token = self._path.read_text(encoding="ascii").strip()
                self._stamp = stamp
        except (OSError, UnicodeDecodeError) as error:
            raise Unavailable(f"token file {self._path}: {type(error).__name__}") from None
        return self._token


class Transport:
    """Sends requests to one server; at most `in_flight` at once, streams not counted."""

    def __init__(
        self,
        url: str,
        *,
        ca_file: str | None,
        in_flight: int,
        timeout_seconds: float,
        max_answer_bytes: int,
    ) -> None:
        self._url = url.rstrip("/")
        self._ca_file = ca_file
        self._cap = asyncio.Semaphore(in_flight)
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=5)
        self._max_answer_bytes = max_answer_bytes
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """One request and its whole answer; raises Unavailable when there is none.

        Never repeats a POST or PATCH: after a lost answer the caller has to read back.
        """
        try:
            async with (
                self._cap,
                self._open().request(
                    method,
                    self._url + path,
                    params=params,
                    headers=headers,
                    data=body,
                    allow_redirects=False,
                    timeout=self._timeout,
                ) as response,
            ):
                return await self._answer(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._no_answer(error) from None

    @asynccontextmanager
    async def stream(
        self, path: str, *, headers: Mapping[str, str], params: Mapping[str, str], silence_seconds: float
    ) -> AsyncIterator[tuple[Answer | None, aiohttp.StreamReader]]:
        """An endless GET. Yields the refusal, or None, and the reader.

        Raises Unavailable when the server says nothing for `silence_seconds` or breaks off.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=silence_seconds)
        try:
            async with self._open().get(
                self._url + path, params=params, headers=headers, allow_redirects=False, timeout=timeout
            ) as response:
                refusal = None if response.status == 200 else await self._answer(response)
                yield refusal, response.content
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._no_answer(error) from None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            secure = self._url.startswith("https:")
            context = ssl.create_default_context(cafile=self._ca_file) if secure else True
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=context, keepalive_timeout=_IDLE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Compression costs both sides more CPU than the bytes are worth inside a cluster.
                headers={"Accept-Encoding": "identity"},
                max_field_size=65536,
            )
        return self._session

    async def _answer(self, response: aiohttp.ClientResponse) -> Answer:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._max_answer_bytes:
                raise Unavailable(f"{self._url}: answer above {self._max_answer_bytes} bytes")
            chunks.append(chunk)
        return Answer(response.status, _seconds(response.headers.get("Retry-After")), b"".join(chunks))

    def _no_answer(self, error: Exception) -> Unavailable:
        # The type says enough; the text of some errors repeats the request.
        return Unavailable(f"{self._url}: {type(error).__name__}")


def bounded(message: str) -> str:
    """A server's message, cut to a length that fits a condition."""
    return message if len(message) <= _MESSAGE_LIMIT else message[: _MESSAGE_LIMIT - 3] + "..."


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is not used by these servers."""
    return float(header) if header is not None and header.isdecimal() else None
