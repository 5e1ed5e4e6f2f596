"""The guard's client of the shared counters on a real Redis, and what happens when that fails."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sendward import document
from sendward.document import Limit
from sendward.guard.counters import SharedCounters
from sendward.guard.limiter import ADMITTED, Admission
from tests.guard.counters_guard import ENOUGH, GATEWAY, HERE, PORT, SLOW, TERM, Guard, until
from tests.lab.redis_server import RedisServer

pytestmark = pytest.mark.lab

DAY = 86_400_000  # ms


async def test_nothing_is_asked_before_the_first_check(redis: RedisServer, tmp_path: Path) -> None:
    counters = SharedCounters(GATEWAY, tmp_path)
    counters.use(HERE)
    assert not counters.reachable
    assert await counters.admit(TERM, [("a", SLOW)], 1) is None
    await counters.close()


async def test_a_term_begins_empty_and_fills_at_the_rate(guard: Guard) -> None:
    second = [Limit(messages=1, period=1, burst=1)]
    assert await guard.take(1, limits=second) == Admission(refused=0, retry_after=1)

    async def admitted() -> bool:
        return await guard.take(1, limits=second) == ADMITTED

    await until(admitted)


async def test_a_term_earns_from_its_beginning_also_one_that_was_flushed(
    guard: Guard, redis: RedisServer
) -> None:
    """Not from its first message: who sends seldom would be refused each time."""
    second = [Limit(messages=1000, period=1, burst=1)]
    for _ in range(2):
        await guard.counters.begin(TERM)
        began = redis_time(redis)
        while redis_time(redis) <= began + 2000:
            pass
        assert await guard.take(1, limits=second) == ADMITTED
        redis.command("FLUSHALL")


async def test_a_term_is_filled_once_and_not_again_after_a_flush(
    guard: Guard, other: Guard, redis: RedisServer
) -> None:
    await guard.counters.begin(TERM, full=True)
    assert await guard.take(60) == ADMITTED
    await other.counters.begin(TERM, full=True)
    assert await other.left() == 40
    assert await guard.left("b") == 100
    redis.command("FLUSHALL")
    await guard.counters.begin(TERM, full=True)
    assert [await guard.left(), await guard.left("b"), await other.left("c")] == [0, 0, 0]


async def test_all_guards_count_together(guard: Guard, other: Guard) -> None:
    await guard.counters.begin(TERM, full=True)
    assert await guard.take(30) == ADMITTED
    assert await other.take(30) == ADMITTED
    assert await guard.left() == 40
    assert (await other.take(1)) == Admission(refused=0, retry_after=86400)


async def test_guards_at_once_never_pass_more_than_burst_and_rate(
    guard: Guard, other: Guard, redis: RedisServer
) -> None:
    limits = [Limit(messages=20, period=1, burst=50)]
    await guard.counters.begin(TERM, full=True)
    passed = 0

    async def send(by: Guard) -> None:
        nonlocal passed
        for _ in range(40):
            answer = await by.take(1, limits=limits)
            assert answer is not None
            passed += answer.refused is None

    began = redis_time(redis)
    await asyncio.gather(*(send(by) for by in (guard, other) for _ in range(10)))
    window = redis_time(redis) - began
    assert 50 <= passed <= 50 + 20 * window / 1_000_000
    assert passed < 800


def redis_time(redis: RedisServer) -> int:
    """µs by the clock of Redis."""
    reply = redis.command("EVAL", "local t = redis.call('TIME'); return t[1] .. ' ' .. t[2]", "0")
    seconds, micros = reply.split()
    return int(seconds) * 1_000_000 + int(micros)


async def test_counted_are_exactly_the_admitted(guard: Guard, other: Guard) -> None:
    await guard.counters.begin(TERM, full=True)
    answers = await asyncio.gather(*(by.take(1) for by in (guard, other) for _ in range(80)))
    assert sum(answer == ADMITTED for answer in answers) == 100


async def test_a_killed_redis_is_answered_none_at_once_and_taken_again(
    guard: Guard, redis: RedisServer
) -> None:
    await guard.counters.begin(TERM, full=True)
    redis.kill()
    assert await guard.take(1) is None
    assert not guard.counters.reachable
    redis.start()
    assert await guard.take(1) is None
    await guard.counters.check()
    assert not guard.counters.reachable, "taken again before the pause was over"
    await guard.reached()
    assert await guard.left() == 0, "an empty Redis gives nothing"


async def test_a_paused_redis_is_given_up_and_taken_again(guard: Guard, redis: RedisServer) -> None:
    await guard.counters.begin(TERM, full=True)
    redis.pause()
    assert await guard.take(1) is None
    assert not guard.counters.reachable
    await guard.connect()
    assert not guard.counters.reachable
    redis.resume()
    await guard.reached()
    assert await guard.left() in {99, 100}  # it may have been counted


async def test_requests_under_way_when_redis_pauses_are_all_answered(
    guard: Guard, redis: RedisServer
) -> None:
    await guard.counters.begin(TERM, full=True)
    redis.pause()
    async with asyncio.timeout(ENOUGH):
        assert set(await asyncio.gather(*(guard.take(1) for _ in range(200)))) == {None}


async def test_a_restart_between_two_checks_gives_nothing(guard: Guard, redis: RedisServer) -> None:
    await guard.counters.begin(TERM, full=True)
    assert await guard.take(40) == ADMITTED
    redis.kill()
    redis.start()
    assert await guard.take(1) is None, "another process than before"
    await guard.reached()
    assert await guard.left() == 0


async def test_an_old_snapshot_gives_nothing_back(guard: Guard, redis: RedisServer) -> None:
    await guard.counters.begin(TERM, full=True)
    assert await guard.take(10) == ADMITTED
    snapshot = redis.snapshot()
    assert await guard.left() == 90
    redis.restart_from(snapshot)
    await guard.reached()
    assert "place.1" in redis.command("GET", f"sendward:{{{GATEWAY}}}:term")
    assert await guard.left() == 0
    assert await guard.left("b") == 0


async def test_another_term_begins_empty(guard: Guard) -> None:
    await guard.counters.begin(TERM, full=True)
    assert await guard.take(10) == ADMITTED
    assert await guard.left(term="place.2") == 0
    assert await guard.left() == 0, "nor does the earlier one come back"


async def unfit(guard: Guard) -> list[str]:
    """Why the guard does not reach its counters, as it says in the log, once."""
    with capture_logs() as logs:
        await guard.counters.check()
        await guard.connect()
    assert not guard.counters.reachable
    return [entry["why"] for entry in logs]


async def test_a_redis_that_may_evict_is_refused(guard: Guard, redis: RedisServer) -> None:
    redis.command("CONFIG", "SET", "maxmemory", "50mb")
    redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    assert await unfit(guard) == ["it may evict counters: set maxmemory-policy to noeviction"]
    redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    await guard.connect()
    assert guard.counters.reachable


async def test_a_full_redis_is_not_reachable(guard: Guard, redis: RedisServer) -> None:
    redis.command("CONFIG", "SET", "maxmemory", "1")
    assert await unfit(guard) == ["its memory is full: raise its maxmemory"]


async def test_a_replica_is_refused(guard: Guard, redis: RedisServer) -> None:
    redis.command("REPLICAOF", "127.0.0.1", "1")
    assert await unfit(guard) == ["it is a replica: let spec.limits.redis.host name the primary"]
    assert await guard.take(1) is None


async def test_a_primary_that_was_a_replica_meanwhile_gives_nothing(guard: Guard, redis: RedisServer) -> None:
    await guard.counters.begin(TERM, full=True)
    assert await guard.take(10) == ADMITTED
    redis.command("REPLICAOF", "127.0.0.1", "1")
    redis.command("REPLICAOF", "NO", "ONE")
    await guard.counters.check()
    assert not guard.counters.reachable
    await guard.reached()
    assert await guard.left() == 0


async def test_what_others_wrote_into_the_keys_never_admits(guard: Guard, redis: RedisServer) -> None:
    await guard.counters.begin(TERM, full=True)
    head = redis.command("GET", key("term")).rpartition(" ")[0]
    odd = [
        "", head, f"{head}x\n1 86400 100 0 0", f"{head}\nnonsense", f"{head}\n1 86400 100 0 -5",
        f"{head}\n1 86400 100 0 99999999999999999999", f"{head}\n1 86400 100 9999999999999999 0",
        f"{head}\n0 86400 100 0 0", f"{head}\n1 86400 100 0 0 0", f"{head}\n{'9' * 400} 1 1 0 0",
        f"{head}\n1 86400 nan 0 0",
    ]  # fmt: skip
    admitted = {}
    for number, value in enumerate(odd):
        redis.command("SET", key(f"odd-{number}"), value)
        admitted[value] = await guard.left(f"odd-{number}")
    full = {"", head, f"{head}x\n1 86400 100 0 0"}  # no record of this term: as if it were absent
    assert {value for value, count in admitted.items() if count} <= full
    redis.command("RPUSH", key("list"), "1")
    redis.command("HSET", key("hash"), "1", "1")
    assert [await guard.left("list"), await guard.left("hash")] == [0, 0]


def key(name: str) -> str:
    return f"sendward:{{{GATEWAY}}}:{name}"


@pytest.mark.parametrize("value", ["", "x", TERM, f"{TERM} a b", f"{TERM} {'0' * 40} 0", "\n", "9" * 500])
async def test_a_term_that_others_wrote_gives_nothing(guard: Guard, redis: RedisServer, value: str) -> None:
    await guard.counters.begin(TERM, full=True)
    assert await guard.take(10) == ADMITTED
    redis.command("SET", key("term"), value)
    assert await guard.left() == 0
    redis.command("DEL", key("term"))
    redis.command("RPUSH", key("term"), value)
    assert await guard.left("b") == 0


async def test_unreadable_counters_fill_again_at_the_rate(guard: Guard, redis: RedisServer) -> None:
    limits = [Limit(messages=5, period=1, burst=1)]
    await guard.counters.begin(TERM, full=True)
    redis.command("RPUSH", key("a"), "1")
    assert await guard.take(1, limits=limits) == Admission(refused=0, retry_after=1)

    async def admitted() -> bool:
        return await guard.take(1, limits=limits) == ADMITTED

    await until(admitted)


async def test_a_forgotten_script_is_loaded_again(guard: Guard, redis: RedisServer) -> None:
    await guard.counters.begin(TERM, full=True)
    redis.command("SCRIPT", "FLUSH")
    assert await guard.take(1) == ADMITTED
    assert await guard.left() == 99


def expires(redis: RedisServer, name: str) -> int:
    """In so many ms."""
    return int(redis.command("PTTL", key(name)).strip().removeprefix(":"))


async def test_keys_expire_once_they_would_be_full_and_their_term_after_them(
    guard: Guard, redis: RedisServer
) -> None:
    await guard.counters.begin(TERM, full=True)
    assert await guard.take(1) == ADMITTED
    assert DAY < expires(redis, "a") <= DAY + 60_001
    assert expires(redis, "term") >= expires(redis, "a") + DAY
    assert await guard.take(40, "b") == ADMITTED
    assert 40 * DAY < expires(redis, "b") <= 40 * DAY + 60_001
    assert await guard.take(1) == ADMITTED
    assert expires(redis, "term") >= expires(redis, "b") + DAY


async def test_a_term_in_use_does_not_expire_and_is_not_written_each_time(
    guard: Guard, redis: RedisServer
) -> None:
    """Who asks it to begin, as each guard does twice a second, uses it."""
    await guard.counters.begin(TERM)
    record = redis.command("GET", key("term")).strip()
    await guard.counters.begin(TERM)
    assert redis.command("GET", key("term")).strip() == record
    head, _, ends = record.rpartition(" ")
    redis.command("SET", key("term"), f"{head} {int(ends) - 2 * DAY + 60_000}", "PX", "60000")
    await guard.counters.begin(TERM)
    assert expires(redis, "term") > DAY
    assert redis.command("GET", key("term")).startswith(f"{head} ")


async def test_a_term_that_expired_gives_nothing(guard: Guard, redis: RedisServer) -> None:
    await guard.counters.begin(TERM, full=True)
    assert await guard.take(10) == ADMITTED
    redis.command("DEL", key("term"))
    assert await guard.left() == 0


async def test_no_place_is_no_answer(guard: Guard) -> None:
    guard.counters.use(None)
    assert not guard.counters.reachable
    await guard.counters.check()
    assert await guard.take(1) is None


async def test_the_same_place_changes_nothing_and_another_begins_anew(guard: Guard) -> None:
    guard.counters.use(document.Redis("127.0.0.1", PORT))
    assert guard.counters.reachable
    guard.counters.use(document.Redis("127.0.0.1", 1))
    assert not guard.counters.reachable
    await guard.counters.check()
    assert not guard.counters.reachable
    guard.counters.use(HERE)
    await guard.counters.check()
    assert guard.counters.reachable, "no pause is due at another place"
