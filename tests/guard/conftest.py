"""Redis for the shared counters: one server for tests that leave it alone, one of its own for faults."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.redis_server import RedisServer

PORT = 6390


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
