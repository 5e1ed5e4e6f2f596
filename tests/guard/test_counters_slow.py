"""The shared counters of a real Redis that answers, but late: exact or not at all."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import structs

from sendward import document
from sendward.document import Limit
from sendward.guard.counters import SharedCounters
from sendward.guard.limiter import ADMITTED
from sendward.protocol import Hello, Part, Shares, SharesAck
from sendward.verdict import Reason
from tests.guard import builders
from tests.guard.counters_guard import TERM, Guard
from tests.guard.counters_relay import Relay
from tests.guard.harness import Harness, eventually
from tests.guard.test_counters import redis_time
from tests.lab.redis_server import RedisServer

pytestmark = pytest.mark.lab

LATE = 0.2  # seconds; the guard waits 0.4 for an answer, also when the machine is busy
TOO_LATE = 0.6

PASSED = (200, None)
UNAVAILABLE = (Reason.LimitsUnavailable.status, Reason.LimitsUnavailable.code)
SPENT = (Reason.AccountLimit.status, Reason.AccountLimit.code)


@pytest.fixture
async def guards(relay: Relay, tmp_path: Path) -> AsyncIterator[tuple[Guard, Guard]]:
    """Two guards of one gateway that reach Redis by the relay, with four connections each."""
    made = Guard(tmp_path), Guard(tmp_path)
    for guard in made:
        guard.counters.use(document.Redis("127.0.0.1", relay.port))
        await guard.counters.check()
        assert guard.counters.reachable
    await made[0].counters.begin(TERM, full=True)
    for guard in made:
        assert await asyncio.gather(*(guard.take(1, "warm") for _ in range(4))) == [ADMITTED] * 4
    yield made
    for guard in made:
        await guard.counters.close()


async def test_late_answers_count_exactly(guards: tuple[Guard, Guard], relay: Relay) -> None:
    relay.delay = LATE
    for _ in range(3):
        answers = await asyncio.gather(*(guard.take(4) for guard in guards for _ in range(4)))
        assert answers == [ADMITTED] * 8
    refused = await guards[0].take(5)
    assert refused is not None
    assert refused.refused == 0
    assert await guards[1].take(4) == ADMITTED
    for guard in guards:
        await guard.counters.check()
        assert guard.counters.reachable
    relay.delay = 0
    assert await guards[0].left() == 0


async def test_no_answer_in_time_admits_nothing_and_counts_what_was_asked(
    guards: tuple[Guard, Guard], relay: Relay
) -> None:
    """Asked once and never again, so at most once; and Redis is not taken again while it is that slow."""
    guard, other = guards
    relay.delay = TOO_LATE
    assert await asyncio.gather(*(guard.take(10) for _ in range(4))) == [None] * 4
    assert not guard.counters.reachable
    assert await guard.take(1) is None
    await guard.connect()
    assert not guard.counters.reachable
    assert await guard.take(1) is None
    relay.delay = 0
    await guard.reached()
    assert await other.left() == 60
    assert await guard.left() == 0


async def test_no_more_than_the_limit_passes_while_redis_is_slow_now_and_then(
    guards: tuple[Guard, Guard], relay: Relay, redis: RedisServer
) -> None:
    limits = [Limit(messages=20, period=1, burst=50)]
    passed = lost = 0

    async def send(guard: Guard, messages: int) -> None:
        nonlocal passed, lost
        for _ in range(messages):
            answer = await guard.take(1, limits=limits)
            passed += answer == ADMITTED
            lost += answer is None

    began = redis_time(redis)
    for _ in range(3):
        relay.delay = 0
        for guard in guards:
            await guard.reached()
        await asyncio.gather(*(send(guard, 40) for guard in guards for _ in range(4)))
        relay.delay = TOO_LATE
        await asyncio.gather(*(send(guard, 1) for guard in guards for _ in range(4)))
    window = redis_time(redis) - began
    assert lost == 3 * 8
    assert 50 <= passed <= 50 + 20 * window / 1_000_000


async def count_by(pod: Harness, place: document.Redis, folder: Path, *accounts: document.Account) -> None:
    """The pod limits by the counters at this place, which began full."""
    counters = SharedCounters(builders.GATEWAY_UID, folder)
    counters.use(place)
    await counters.check()
    term = f"{counters.place}.1"
    await counters.begin(term, full=True)
    await counters.close()
    await pod.hub.wait_for(Hello)
    part = builders.gateway(envoy=pod.files(), application_port=pod.application_port)
    await pod.hub.send(Part(builders.sealed(structs.replace(part, counters=place), 1)))
    await pod.hub.send(Part(builders.sealed(builders.shard(*accounts), 1)))
    await pod.hub.send(Shares(round=1, default=0, term=term))
    await pod.hub.wait_for(SharesAck)
    await eventually(pod.ready, "readiness")


async def test_a_limited_message_is_refused_at_the_listener_while_redis_is_too_slow(
    pod: Harness, relay: Relay, tmp_path: Path
) -> None:
    """In words of the guard, within the time that Envoy gives it; who has no limit is served."""
    limits = [Limit(messages=1, period=86400, burst=3)]
    limited = builders.account("limited", builders.key("one"), limits=limits)
    free = builders.account("free", builders.key("two"))
    await count_by(pod, document.Redis("127.0.0.1", relay.port), tmp_path, limited, free)
    answers: list[tuple[int, object]] = []

    async def answer(key: str) -> tuple[int, object]:
        status, _, problem = await pod.send({"x-api-key": builders.credential(key).value})
        return status, problem.get("code")

    async def reaches(wanted: tuple[int, object]) -> bool:
        answers.append(await answer("one"))
        return answers[-1] == wanted

    await eventually(lambda: reaches(PASSED), "Redis is reached")
    relay.delay = TOO_LATE
    assert await asyncio.gather(*(answer("one") for _ in range(4))) == [UNAVAILABLE] * 4
    assert await answer("two") == PASSED
    relay.delay = 0
    await eventually(lambda: reaches(SPENT), "the limit is reached")
    assert answers.count(PASSED) <= 3
    assert set(answers) <= {PASSED, UNAVAILABLE, SPENT}
