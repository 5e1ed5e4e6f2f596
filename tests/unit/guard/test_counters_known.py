"""What a guard knows of its shared counters, before it has spoken to them and after."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sendward import document
from sendward.guard.counters import SharedCounters
from sendward.protocol import is_of_place
from tests.fakes.counters import FakeRedis
from tests.guard.counters_guard import MovedClock


@pytest.fixture
def nowhere() -> Iterator[document.Redis]:
    """A port at which nobody listens."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        yield document.Redis("127.0.0.1", nobody.getsockname()[1])


async def test_counters_that_never_answered_are_unknown_for_ten_seconds(
    tmp_path: Path, nowhere: document.Redis
) -> None:
    """The network of a new pod may come late; who said that they do not answer would take them from all."""
    clock = MovedClock()
    counters = SharedCounters("gateway", tmp_path, clock)
    assert not counters.untried
    counters.use(nowhere)
    assert counters.untried
    await counters.check()
    assert counters.untried
    clock.ahead += 9
    await counters.check()
    assert counters.untried
    clock.ahead += 1
    assert not counters.untried
    assert counters.place == ""
    counters.use(None)
    assert not counters.untried
    await counters.close()


async def test_counters_that_answered_once_are_known_to_fail_at_once(
    tmp_path: Path, nowhere: document.Redis
) -> None:
    redis = FakeRedis()
    counters = SharedCounters("gateway", tmp_path, MovedClock())
    counters.use(await redis.start())
    await counters.check()
    assert counters.reachable
    redis.stop()
    await counters.check()
    assert (counters.place, counters.untried) == ("", False)
    counters.use(nowhere)
    assert counters.untried
    await counters.check()
    assert not counters.untried
    await counters.close()


@pytest.mark.parametrize(
    ("longer", "place", "expected"),
    [
        ("a.b.1", "a.b", True),
        ("a.b", "a", True),
        ("a.b", "a.b", False),
        ("a.bc.1", "a.b", False),
        ("", "a", False),
        (".1", "", False),
        ("", "", False),
    ],
)
def test_nothing_is_of_no_place(longer: str, place: str, expected: bool) -> None:
    assert is_of_place(longer, place) is expected
