"""The counters of limits that all guards of a gateway share, in Redis.

A request is asked once and never again, since it may have been counted. Who is not answered in time says
so, and is not asked again until a check succeeded, at the earliest some seconds after the failure.

All connections of a pool speak to the same Redis process on the same data: the counters count from then on
only (see `counters_script`). Another process than before, or anything unexpected, ends the whole pool.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import structlog
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from sendward import document
from sendward.clock import Clock, SystemClock
from sendward.guard import counters_script as script
from sendward.guard.counters_script import Call
from sendward.guard.limiter import ADMITTED, Admission, Limits

_ANSWER_SECONDS: Final = 0.4  # more than this process may be held up by a document or its CPU quota
_CONNECT_SECONDS: Final = 1.0
_REQUEST_SECONDS: Final = 0.6  # for all of one request, also when it waits for a connection; Envoy waits 1 s
_CHECK_SECONDS: Final = 2.0  # for a connection and the first look at Redis
_PAUSE_SECONDS: Final = 5.0  # after a failure, so that limits do not flap
_FIRST_SECONDS: Final = 10.0  # network and names of a new pod may come late: that is no failure yet
_CONNECTIONS: Final = 16

_SHA: Final = hashlib.sha1(script.LUA.encode(), usedforsecurity=False).hexdigest()
_PROCESS: Final = re.compile(r"[0-9a-f]{40}")
_SECTIONS: Final = ("server", "replication", "memory")

log = structlog.get_logger(__name__)


class _UnfitError(Exception):
    """The counters cannot be kept there; the message says why and what helps."""


class _OverTls(Connection):
    """A connection with the TLS context of its pool; redis-py's own makes one for each connection."""

    def __init__(self, *, context: ssl.SSLContext, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._context = context

    def _connection_arguments(self) -> Mapping[str, object]:
        return {**super()._connection_arguments(), "ssl": self._context}


class _Pool:
    """Connections to one Redis process. Calls raise whatever redis-py does, and `_UnfitError`."""

    def __init__(self, redis: document.Redis, credentials: Path) -> None:
        self.process = ""
        self._over = False
        arguments: dict[str, Any] = {
            "host": redis.host,
            "port": redis.port,
            "username": _text(credentials / "username"),
            "password": _text(credentials / "password"),
        }
        if redis.tls:
            authorities = _text(credentials / "ca.crt")
            arguments["connection_class"] = _OverTls
            arguments["context"] = ssl.create_default_context(cadata=authorities)
        self._connections = BlockingConnectionPool(
            max_connections=_CONNECTIONS,
            timeout=_REQUEST_SECONDS,
            socket_timeout=_ANSWER_SECONDS,
            socket_connect_timeout=_CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
            redis_connect_func=self._greet,
            **arguments,
        )

    async def _greet(self, connection: Connection) -> None:
        try:
            await connection.on_connect()
            await self._look(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    async def _look(self, connection: Connection) -> None:
        """Which process this is, and whether it keeps what it is told."""
        if self._over:
            raise _UnfitError("these connections are given up")
        known: dict[str, str] = {}
        for section in _SECTIONS:
            await connection.send_command("INFO", section)
            known |= _fields(await connection.read_response())
        process = _process(known)
        if self.process not in {"", process}:
            raise _UnfitError("another Redis answers than before")
        self.process = process

    async def check(self, gateway: str) -> None:
        """Raises unless requests can be counted here."""
        async with self._connected() as connection:
            await self._look(connection)
            await _run(connection, script.check(gateway))

    async def run(self, call: Call) -> object:
        """The answer of the script."""
        async with self._connected() as connection:
            return await _run(connection, call)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        connection: Connection = await self._connections.get_connection()  # type: ignore[no-untyped-call]
        try:
            yield connection
        finally:
            await self._connections.release(connection)

    async def close(self) -> None:
        """End all connections, also those in use."""
        self._over = True
        await self._connections.disconnect()


async def _run(connection: Connection, call: Call) -> object:
    command = ("EVALSHA", _SHA, len(call.keys), *call.keys, *call.arguments)
    await connection.send_command(*command)
    try:
        return await connection.read_response()
    except exceptions.NoScriptError:  # nothing was done
        await connection.send_command("SCRIPT", "LOAD", script.LUA)
        await connection.read_response()
        await connection.send_command(*command)
        return await connection.read_response()


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n") or None
    except (FileNotFoundError, NotADirectoryError):
        return None


def _fields(info: object) -> dict[str, str]:
    if not isinstance(info, bytes):
        raise script.UnreadableError
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    return {name: value.strip() for name, found, value in lines if found}


def _process(known: Mapping[str, str]) -> str:
    """Changes whenever Redis may have forgotten something: at a restart, and at a change of its primary."""
    if known.get("role") != "master":
        raise _UnfitError("it is a replica: let spec.limits.redis.host name the primary")
    if known.get("maxmemory", "0") != "0" and known.get("maxmemory_policy") != "noeviction":
        raise _UnfitError("it may evict counters: set maxmemory-policy to noeviction")
    run, data = known.get("run_id", ""), known.get("master_replid", "")
    if not _PROCESS.fullmatch(run) or not _PROCESS.fullmatch(data):
        raise _UnfitError("it tells no run_id or master_replid: name Redis or Valkey itself, no proxy")
    return f"{run}.{data}"


_REASONS: Final[tuple[tuple[tuple[type[Exception], ...], str], ...]] = (
    (
        (exceptions.AuthenticationError, exceptions.AuthorizationError),
        "it refuses the login: check username and password in the Secret of the counters",
    ),
    (
        (exceptions.NoPermissionError,),
        "its login lacks rights: README.md lists those that are needed",
    ),
    ((exceptions.OutOfMemoryError,), "its memory is full: raise its maxmemory"),
    ((exceptions.TimeoutError, TimeoutError), "no answer in time"),
    (
        (exceptions.ConnectionError, OSError),
        "no connection: check spec.limits.redis, the network between, and the certificate",
    ),
    (
        (exceptions.ResponseError,),
        "it refuses the script: see README.md for the rights that are needed, and the log of Redis",
    ),
)
"""The first that fits; the order is from special to general."""


def _reason(error: Exception) -> str:
    """For the log. Never what the server wrote: it may repeat the password."""
    if isinstance(error, _UnfitError):
        return str(error)
    known = (reason for types, reason in _REASONS if isinstance(error, types))
    return next(known, f"unexpected answer ({type(error).__name__}): check that it is Redis")


class SharedCounters:
    """`Limiter.admit` by counters that all guards share; what fails is told by None, never raised.

    `credentials`: the folder with `username`, `password` and `ca.crt`, each of which may be absent; read
    again for each new pool of connections.
    """

    def __init__(self, gateway_uid: str, credentials: Path, clock: Clock | None = None) -> None:
        self._gateway = gateway_uid
        self._credentials = credentials
        self._clock = clock or SystemClock()
        self._redis: document.Redis | None = None
        self._pool: _Pool | None = None
        self._given_up: list[_Pool] = []
        self._place = ""
        self._met = False  # counters have answered once, at whichever place
        self._told = 0.0  # when it was told where they are
        self._failed: float | None = None
        self._filled = ""  # the last term that may have begun full
        self._said = ""

    def use(self, redis: document.Redis | None) -> None:
        """Where the counters are; None: there are none. Another place than before begins anew."""
        if redis != self._redis:
            self._redis = redis
            self._give_up()
            self._told = self._clock.monotonic()
            self._failed = None
            self._said = ""

    @property
    def place(self) -> str:
        """Which counters answer now: where they are declared to be, and 16 hex digits of the Redis process
        there; "" while none do. Two processes under one name would count apart.
        """
        return self._place

    @property
    def untried(self) -> bool:
        """Whether it is not known yet if they answer: they were not asked; or they never did in this
        process, which may have begun before its network.
        """
        if self._redis is None or self._place:
            return False
        begins = not self._met and self._clock.monotonic() - self._told < _FIRST_SECONDS
        return begins or self._failed is None

    @property
    def reachable(self) -> bool:
        """Whether they answer now."""
        return bool(self._place)

    async def check(self) -> None:
        """Connect, or see that the connection is good; to be called more than once a second, so that each
        report tells what is. Never raises.
        """
        await self._close_given_up()
        redis = self._redis
        if redis is None or self._is_pausing():
            return
        pool = self._pool
        try:
            if pool is None:
                pool = self._pool = _Pool(redis, self._credentials)
            async with asyncio.timeout(_CHECK_SECONDS):
                await pool.check(self._gateway)
        except Exception as error:  # noqa: BLE001  whoever listens there may answer anything
            self._fail(pool, error)
            return
        if pool is self._pool and not self._place:
            process = hashlib.sha256(pool.process.encode()).hexdigest()[:16]
            self._place = f"{redis.place}.{process}"
            self._met = True
            self._say("", place=f"{redis.host}:{redis.port}")

    async def begin(self, term: str, *, full: bool = False) -> None:
        """Let the term begin, unless it has begun: from then on its counters earn. `full`: tried once for
        each term, since what was flushed meanwhile is used up. Never raises.
        """
        pool = self._pool
        if pool is None or not self._place:
            return
        full, self._filled = full and term != self._filled, term
        await self._ask(pool, script.begin(self._gateway, term, pool.process, full=full))

    async def admit(
        self, term: str, wanted: Sequence[tuple[str, Limits]], cost: int, *, audit: bool = False
    ) -> Admission | None:
        """As `Limiter.admit`. None: no answer in time, though it may have been counted."""
        pool = self._pool
        if pool is None or not self._place:
            return None
        call = script.admit(self._gateway, term, pool.process, wanted, cost, audit=audit)
        if call is None:
            return ADMITTED
        return await self._ask(pool, call)

    async def _ask(self, pool: _Pool, call: Call) -> Admission | None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                return script.admission(call, await pool.run(call))
        except Exception as error:  # noqa: BLE001
            self._fail(pool, error)
            return None

    async def close(self) -> None:
        """End all connections; the counters are used no more."""
        self.use(None)
        await self._close_given_up()

    def _is_pausing(self) -> bool:
        return self._failed is not None and self._clock.monotonic() - self._failed < _PAUSE_SECONDS

    def _fail(self, pool: _Pool | None, error: Exception) -> None:
        if pool is self._pool:  # else that of an earlier failure
            self._give_up()
            self._failed = self._clock.monotonic()
            self._say(_reason(error))

    def _give_up(self) -> None:
        if self._pool is not None:
            self._given_up.append(self._pool)
        self._pool = None
        self._place = ""

    async def _close_given_up(self) -> None:
        while self._given_up:
            try:
                await self._given_up.pop().close()
            except Exception as error:  # noqa: BLE001  it is gone either way
                log.debug("a connection to the counters did not end well", error=type(error).__name__)

    def _say(self, trouble: str, **place: str) -> None:
        """Once for each change."""
        if trouble == self._said and trouble:
            return
        self._said = trouble
        if trouble:
            log.warning("shared counters cannot be used", why=trouble)
        else:
            log.info("shared counters answer", **place)
