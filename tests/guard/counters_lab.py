"""Limits kept by a guard alone and by Redis, behind one face, with a clock that the tests move."""

import uuid
from collections.abc import Sequence
from typing import Protocol

import redis

from sendward.guard import counters_script as script
from sendward.guard.limiter import ADMITTED, Admission, Limiter, Limits, fill_time
from sendward.protocol import PPM, Portions
from tests.lab.redis_server import RedisServer

SECOND = 1_000_000  # µs
START = 1_700_000_000 * SECOND
PROCESS = "a" * 40
TIME = "redis.call('TIME')"

Wanted = Sequence[tuple[str, Limits]]


class Counters(Protocol):
    """Counters that began full."""

    def admit(self, wanted: Wanted, cost: int = 1, *, audit: bool = False) -> Admission: ...

    def pass_time(self, microseconds: int) -> None: ...


class Alone:
    """The limiter of one guard that has all of every limit."""

    def __init__(self) -> None:
        self._now = START
        self._limiter = Limiter()
        self._limiter.set_shares(self._now * 1000, PPM, {}, Portions(PPM))

    def admit(self, wanted: Wanted, cost: int = 1, *, audit: bool = False) -> Admission:
        for _, limits in wanted:
            for limit in limits:
                self._limiter.expect(fill_time(limit))
        return self._limiter.admit(self._now * 1000, wanted, cost, audit=audit)

    def pass_time(self, microseconds: int) -> None:
        self._now += microseconds


class Shared:
    """The script in a real Redis; only the call that reads the clock is replaced."""

    def __init__(self, server: RedisServer, *, full: bool = True) -> None:
        assert script.LUA.count(TIME) == 1
        self.gateway = uuid.uuid4().hex
        self.client = redis.Redis(server.host, server.port, protocol=2)
        self.term, self.process, self.now = "term", PROCESS, START
        clock = f"test:{self.gateway}"
        self._clock = clock
        self._script = self.client.register_script(
            script.LUA.replace(TIME, f"{{0, redis.call('GET', '{clock}')}}")
        )
        if full:
            self.fill()

    def fill(self) -> None:
        self._call(script.begin(self.gateway, self.term, self.process, full=True))

    def _call(self, call: script.Call) -> Admission:
        self.client.set(self._clock, self.now)
        return script.admission(call, self._script(keys=call.keys, args=call.arguments))

    def admit(self, wanted: Wanted, cost: int = 1, *, audit: bool = False) -> Admission:
        call = script.admit(self.gateway, self.term, self.process, wanted, cost, audit=audit)
        return self._call(call) if call else ADMITTED

    def pass_time(self, microseconds: int) -> None:
        self.now += microseconds

    def key(self, uid: str) -> str:
        return f"sendward:{{{self.gateway}}}:{uid}"

    def forget(self) -> None:
        """Redis is flushed."""
        self.client.delete(self.key("term"), self.key("a"))

    def save(self) -> dict[str, bytes]:
        """What is stored of the term and of the subject `a`."""
        found = ((name, self.client.get(self.key(name))) for name in ("term", "a"))
        return {name: bytes(value) for name, value in found if isinstance(value, bytes)}

    def load(self, saved: dict[str, bytes]) -> None:
        """Another process has loaded what was saved."""
        self.forget()
        for name, value in saved.items():
            self.client.set(self.key(name), value)
        self.restart()

    def restart(self) -> None:
        """Another process with the same data."""
        self.process = uuid.uuid4().hex

    def close(self) -> None:
        self.client.close()


def left(counters: Counters, uid: str, limits: Limits, most: int) -> int:
    """How many messages are left, by taking them all."""
    taken, step = 0, 1 << most.bit_length()
    while step:
        while counters.admit([(uid, limits)], step).refused is None:
            taken += step
        step //= 2
    return taken
