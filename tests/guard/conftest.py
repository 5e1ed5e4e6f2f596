"""A guard with its Envoy; Redis for shared counters, one for tests that leave it alone, one for faults."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.guard.counters_guard import PORT, Guard
from tests.guard.counters_relay import Relay
from tests.guard.harness import Harness
from tests.lab.redis_server import RedisServer


@pytest.fixture
async def pod() -> AsyncIterator[Harness]:
    """Guard and Envoy with a small hub."""
    harness = Harness()
    try:
        await harness.start()
        yield harness
    finally:
        await harness.stop()


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """Runs for all tests; each takes a gateway uid of its own."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A fresh server that the test may do anything to."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder), port=PORT)
        server.start()
        yield server
        server.stop()


@pytest.fixture
async def guard(redis: RedisServer, tmp_path: Path) -> AsyncIterator[Guard]:
    made = Guard(tmp_path)
    await made.counters.check()
    assert made.counters.reachable
    yield made
    await made.counters.close()


@pytest.fixture
async def other(guard: Guard, tmp_path: Path) -> AsyncIterator[Guard]:
    """A second guard of the same gateway."""
    made = Guard(tmp_path)
    await made.counters.check()
    yield made
    await made.counters.close()


@pytest.fixture
async def relay(redis: RedisServer) -> AsyncIterator[Relay]:
    """Redis, as slow as the test says."""
    made = Relay()
    await made.start()
    yield made
    await made.stop()
