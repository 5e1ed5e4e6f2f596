"""A sender: an HTTP client with an API key and a source address of its own.

    async with sender("10.123.200.10", tls, key) as shop:
        answer = await shop.send(pod_address)

It speaks to a pod's address as clients of a Service would, and checks the server's certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from tests.lab.pods.network import Client, client_namespace

SERVER_NAME: Final = "sms.quickstart.example"
PORT: Final = 8443
MESSAGE: Final[Mapping[str, str]] = {"to": "+15550123", "from": "ACME", "text": "Your parcel has arrived."}
_SECONDS: Final = 10.0  # for one answer; only something broken gets there

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """What came back. `code` is that of a problem+json body, "" for other bodies; `ms` the whole call."""

    status: int
    code: str
    retry_after: int | None  # seconds
    body: str
    ms: float
    sent_at: float  # Unix seconds

    @property
    def accepted(self) -> bool:
        """Whether the application took it."""
        return 200 <= self.status < 300

    def __str__(self) -> str:
        return f"{self.status} {self.code}".rstrip()


class Sender:
    """One client. Without `keep_alive` each request opens a connection. Raises aiohttp.ClientError."""

    def __init__(self, place: Client, tls: ssl.SSLContext, key: str, *, keep_alive: bool) -> None:
        self.place = place
        self.key = key
        self.connections = 0  # opened so far
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(self._count)
        self._session = place.session(
            ssl=tls,
            keep_alive=keep_alive,
            trace_configs=[trace],
            timeout=aiohttp.ClientTimeout(total=_SECONDS),
        )

    async def _count(self, *_: object) -> None:
        self.connections += 1

    async def close(self) -> None:
        """Close what is open."""
        await self._session.close()

    async def send(
        self,
        pod: str,
        *,
        method: str = "POST",
        path: str = "/v1/messages",
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        message: Mapping[str, str] | None = None,
        headers: Headers | None = None,
    ) -> Answer:
        """Send `message` (default: one that is fine) as JSON, or what `query` or `form` say instead.

        `headers` replace the one with the key, so that a test decides what stands there.
        """
        options: dict[str, Any] = {"params": query, "data": form}
        if query is None and form is None and method == "POST":
            options["json"] = MESSAGE if message is None else message
        given = [("x-api-key", self.key)] if headers is None else list(headers)
        sent_at, started = time.time(), time.perf_counter()
        async with self._session.request(
            method,
            f"https://{pod}:{PORT}{path}",
            headers=given,
            server_hostname=SERVER_NAME,
            **options,
        ) as answer:
            body = await answer.text()
        return Answer(
            status=answer.status,
            code=_code(answer.content_type, body),
            retry_after=int(found) if (found := answer.headers.get("retry-after")) else None,
            body=body,
            ms=(time.perf_counter() - started) * 1000,
            sent_at=sent_at,
        )


@contextlib.asynccontextmanager
async def sender(
    address: str, tls: ssl.SSLContext, key: str = "", *, keep_alive: bool = False
) -> AsyncIterator[Sender]:
    """A sender in a network namespace of its own, at `address` (10.123.200.0 and above)."""
    async with client_namespace(address) as place:
        made = Sender(place, tls, key, keep_alive=keep_alive)
        try:
            yield made
        finally:
            await made.close()


class Traffic:
    """A sender who sends all the time, to each pod in turn, on connections that stay open.

    `async with Traffic(sender, pods) as traffic`; `answers` is everything that came back. A request
    without any answer has status 0.
    """

    def __init__(self, by: Sender, pods: list[str], *, every: float = 0.02) -> None:
        self._sender = by
        self._pods = pods
        self._every = every  # seconds
        self._task: asyncio.Task[None] | None = None
        self.answers: list[Answer] = []

    async def __aenter__(self) -> Traffic:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def lost(self) -> list[Answer]:
        """Messages that were not accepted."""
        return [answer for answer in self.answers if not answer.accepted]

    async def _run(self) -> None:
        while True:
            for pod in self._pods:
                sent_at = time.time()
                try:
                    self.answers.append(await self._sender.send(pod))
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    self.answers.append(Answer(0, "", None, str(error), 0.0, sent_at))
                await asyncio.sleep(self._every)


def _code(content_type: str, body: str) -> str:
    if content_type != "application/problem+json":
        return ""
    code: str = json.loads(body).get("code", "")
    return code
