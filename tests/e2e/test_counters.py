"""Limits that several pods count together in a real Redis: all of the limit can be used at any one pod, and
no window has more than the limit while Redis is killed, stands still, is flushed and comes back.
"""

import asyncio
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sendward import names
from tests.e2e.support import Tenant
from tests.e2e.test_limits import RATE, Load, during, excess, objects
from tests.lab import BRIDGE_ADDRESS
from tests.lab.redis_server import RedisServer
from tests.lab.stack import Object, eventually

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]

PODS = 2
PORT = 16379
PASSWORD = "only-the-guards-know"


def login(tenant: Tenant) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": names.counters_secret("sms"), "namespace": tenant.namespace},
        "data": {"password": b64encode(PASSWORD.encode()).decode()},
    }


@asynccontextmanager
async def loading(tenant: Tenant) -> AsyncIterator[tuple[Load, list[str]]]:
    """A load several times the limit through both pods, as long as the block runs."""
    load = Load(tenant, await tenant.key("flood"))
    pods = await tenant.pods(PODS)
    sending = [asyncio.create_task(load.through(pod)) for pod in pods]
    try:
        yield load, [pod["metadata"]["name"] for pod in pods]
    finally:
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)


async def by_counters(tenant: Tenant, redis: RedisServer, before: str = "") -> str:
    """The term by which the guards limit now, another one than `before`."""
    uid = (await tenant.get("mgw", "sms"))["metadata"]["uid"]

    def term() -> str:
        answer = redis.command("GET", f"sendward:{{{uid}}}:term")
        found = answer.split(" ")[0].strip()
        return found if "." in found and found != before else ""

    found: str = await eventually(term, "the guards limit by a term of the counters", seconds=60)
    return found


async def accepts(load: Load) -> None:
    """Wait until a message sent from now on was accepted."""
    began = time.monotonic()
    await eventually(lambda: any(start > began for start, _ in load.spans), "accepted again", seconds=60)


async def test_the_limit_is_exact_over_pods_and_holds_whatever_happens_to_redis(
    tenant: Tenant, tmp_path: Path
) -> None:
    redis = RedisServer(tmp_path, host=BRIDGE_ADDRESS, port=PORT, password=PASSWORD)
    redis.start()
    try:
        await tenant.apply(login(tenant), *objects())
        counters = {"host": BRIDGE_ADDRESS, "port": PORT, "podLabels": {"app": "redis"}}
        await tenant.patch("mgw", "sms", {"spec": {"limits": {"redis": counters}}})
        for kind, name in (("mgw", "sms"), ("sender", "flood"), ("akey", "flood")):
            await tenant.ready(kind, name)
        first = await by_counters(tenant, redis)
        async with loading(tenant) as (load, (one, two)):
            await _uses_all(load, one, two)
            load.which = lambda _: True
            redis.command("FLUSHALL")
            await accepts(load)
            redis.pause()
            await _goes_on(load)
            redis.resume()
            second = await by_counters(tenant, redis, first)
            await accepts(load)
            redis.kill()
            await _goes_on(load)
            redis.start()
            await by_counters(tenant, redis, second)
            await accepts(load)
            await tenant.patch("mgw", "sms", {"spec": {"limits": {"redis": None}}})
            redis.kill()
            await accepts(load)
        print(f"accepted {len(load.spans)}; worst window {excess(load.spans):.1f}; refused {load.refused}")
        assert excess(load.spans) <= 0
        assert load.refused == {429, 503}
    finally:
        redis.stop()


async def _uses_all(load: Load, one: str, two: str) -> None:
    """Whichever pod the load comes through: what was not used before is there at once."""
    began = time.monotonic()
    for which in ((one, two), (one,), (two,), (one,)):
        await during(load, which, 3.0)
    used = len(load.spans) / (RATE * (time.monotonic() - began))
    print(f"used {used:.0%} of the rate")
    assert used > 0.9
    assert load.refused == {429}


async def _goes_on(load: Load) -> None:
    """First nothing can be judged; then the guards have shares."""
    load.refused.discard(503)
    await eventually(lambda: 503 in load.refused, "limited messages are refused", seconds=30)
    await accepts(load)
