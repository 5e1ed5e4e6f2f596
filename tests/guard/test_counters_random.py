"""Random histories of the script in a real Redis, beside the limiter of one guard and beside brute force."""

from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sendward.document import Limit
from tests.guard.counters_lab import SECOND, Alone, Shared
from tests.lab.redis_server import RedisServer

pytestmark = pytest.mark.lab

ONE_SERVER = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
DAY = 86400


def within(limit: Limit, taken: list[tuple[int, int]]) -> bool:
    """Brute force: no window admits more than burst + rate * length."""
    for first, (start, _) in enumerate(taken):
        total = 0
        for end, cost in taken[first:]:
            total += cost
            if total > limit.burst + Fraction(limit.messages * (end - start), limit.period * SECOND):
                return False
    return True


@pytest.fixture
def server(shared_redis: RedisServer) -> Iterator[RedisServer]:
    yield shared_redis
    shared_redis.command("FLUSHALL")


fine = st.builds(  # a microsecond is exact for these
    Limit,
    messages=st.integers(1, 30),
    period=st.sampled_from([1, 7, 60]),
    burst=st.integers(1, 20),
    audit=st.booleans(),
)
pauses = st.one_of(st.just(0), st.integers(0, 3 * SECOND), st.integers(0, 90).map(lambda n: n * SECOND))
asked = st.tuples(
    st.lists(fine, max_size=3), st.lists(fine, max_size=2), st.integers(1, 5), st.booleans(), pauses
)


def same_periods(limits: list[Limit], periods: list[int]) -> list[Limit]:
    """So that what is left of a changed limit is the same number of units, and nothing is rounded."""
    return [
        Limit(one.messages, period, one.burst, one.audit)
        for one, period in zip(limits, periods, strict=False)
    ]


@settings(max_examples=150, deadline=None, suppress_health_check=ONE_SERVER)
@given(st.lists(asked, min_size=1, max_size=40))
def test_answers_are_those_of_the_limiter_also_while_limits_change(
    server: RedisServer, history: list[tuple[list[Limit], list[Limit], int, bool, int]]
) -> None:
    alone, shared = Alone(), Shared(server)
    try:
        for account, key, cost, audit, pause in history:
            wanted = [("account", same_periods(account, [1, 60, 7])), ("key", same_periods(key, [60, 1]))]
            assert shared.admit(wanted, cost, audit=audit) == alone.admit(wanted, cost, audit=audit)
            alone.pass_time(pause)
            shared.pass_time(pause)
    finally:
        shared.close()


coarse = st.builds(  # a tick is up to 10 ms
    Limit,
    messages=st.sampled_from([1, 7, 9_999_991, 10_000_000]),
    period=st.sampled_from([1, 60, DAY, 31 * DAY - 1]),
    burst=st.sampled_from([1, 3, 1_000_003, 10_000_000]),
)
events = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 10_000_000)),
        st.tuples(st.just("send"), st.integers(1, 5)),
        st.tuples(st.just("wait"), st.integers(0, 3 * SECOND)),
        st.tuples(st.just("wait"), st.integers(0, 40 * DAY * SECOND)),
        st.tuples(st.sampled_from(["flush", "restart", "save", "load", "term"]), st.just(0)),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=300, deadline=None, suppress_health_check=ONE_SERVER)
@given(st.one_of(fine, coarse), events)
def test_no_window_exceeds_the_limit_whatever_redis_forgets(
    server: RedisServer, limit: Limit, history: list[tuple[str, int]]
) -> None:
    limit = Limit(limit.messages, limit.period, limit.burst)
    shared, taken = Shared(server), []
    saved: dict[str, bytes] = {}
    try:
        for kind, amount in history:
            match kind:
                case "send":
                    cost = 1 + amount % limit.burst
                    if shared.admit([("a", [limit])], cost).refused is None:
                        taken.append((shared.now, cost))
                case "wait":
                    shared.pass_time(amount)
                case "flush":
                    shared.forget()
                case "restart":
                    shared.restart()
                case "save":
                    saved = shared.save()
                case "load":
                    shared.load(saved)
                case "term":
                    shared.term += "x"
                case unknown:
                    raise AssertionError(unknown)
        assert within(limit, taken)
    finally:
        shared.close()


@settings(max_examples=100, deadline=None, suppress_health_check=ONE_SERVER)
@given(st.one_of(fine, coarse), st.lists(st.integers(0, SECOND), min_size=1, max_size=10))
def test_what_is_refused_passes_after_the_wait_it_was_told(
    server: RedisServer, limit: Limit, pauses: list[int]
) -> None:
    limit = Limit(limit.messages, limit.period, limit.burst)
    shared = Shared(server)
    try:
        for pause in pauses:
            shared.admit([("a", [limit])], limit.burst)
            shared.pass_time(pause)
            cost = 1 + pause % limit.burst
            answer = shared.admit([("a", [limit])], cost)
            if answer.refused is not None:
                shared.pass_time(answer.retry_after * SECOND)
                assert shared.admit([("a", [limit])], cost).refused is None
    finally:
        shared.close()


@pytest.mark.parametrize("limit", [Limit(5, 1, 20), Limit(10_000_000, 31 * DAY, 10_000_000)], ids=str)
def test_a_clock_that_goes_back_earns_nothing_until_it_caught_up(server: RedisServer, limit: Limit) -> None:
    shared = Shared(server)
    cost = limit.burst // 2
    assert shared.admit([("a", [limit])], limit.burst).refused is None
    shared.pass_time(-SECOND)
    for _ in range(4):
        assert shared.admit([("a", [limit])], 1).refused == 0
        shared.pass_time(SECOND // 4)
    assert shared.admit([("a", [limit])], 1).refused == 0
    whole = limit.burst * limit.period * SECOND // limit.messages
    shared.pass_time(whole // 2 + 10_000)
    assert shared.admit([("a", [limit])], cost).refused is None
    shared.close()


def test_a_clock_that_was_far_ahead_does_not_block_for_longer_than_a_filling(server: RedisServer) -> None:
    limit = Limit(messages=5, period=1, burst=20)
    shared = Shared(server)
    shared.pass_time(365 * DAY * SECOND)
    assert shared.admit([("a", [limit])], 20).refused is None
    shared.pass_time(-365 * DAY * SECOND)
    assert shared.admit([("a", [limit])], 1).refused == 0
    shared.pass_time(4 * SECOND)
    assert shared.admit([("a", [limit])], 20).refused is None
    assert shared.admit([("a", [limit])], 1).refused == 0
    shared.close()


def test_a_term_from_the_future_begins_now(server: RedisServer) -> None:
    limit = Limit(messages=5, period=1, burst=20)
    shared = Shared(server, full=False)
    shared.pass_time(365 * DAY * SECOND)
    assert shared.admit([("a", [limit])], 1).refused == 0
    shared.pass_time(-365 * DAY * SECOND)
    assert shared.admit([("a", [limit])], 1).refused == 0
    shared.pass_time(SECOND)
    assert [shared.admit([("a", [limit])], cost).refused for cost in (6, 5, 1)] == [0, None, 0]
    shared.close()


def test_tokens_carried_to_another_resolution_never_grow(server: RedisServer) -> None:
    small, large = Limit(10, 60, 10), Limit(10_000_000, 31 * DAY, 10_000_000)
    shared = Shared(server)
    assert shared.admit([("a", [small])], 3).refused is None
    for _ in range(10):
        assert shared.admit([("a", [large])], 8).refused == 0
        assert shared.admit([("a", [small])], 8).refused == 0
    assert shared.admit([("a", [large])], 6).refused is None
    shared.close()


LARGEST = Limit(10_000_000, 31 * DAY, 10_000_000)  # a tick is 10 ms, and a message comes back every 26.784
TICK = 10_000


def test_what_is_taken_within_a_tick_refills_from_its_end(server: RedisServer) -> None:
    shared = Shared(server)
    shared.pass_time(TICK - 1)
    assert shared.admit([("a", [LARGEST])], LARGEST.burst).refused is None
    shared.pass_time(26 * TICK + 1)  # 27 ticks have begun, but 26.1 have passed
    assert shared.admit([("a", [LARGEST])], 1).refused == 0
    shared.pass_time(TICK)
    assert shared.admit([("a", [LARGEST])], 1).refused is None
    shared.close()


def test_a_tick_is_earned_when_it_is_over(server: RedisServer) -> None:
    shared = Shared(server)
    assert shared.admit([("a", [LARGEST])], LARGEST.burst).refused is None
    shared.pass_time(53 * TICK + 1)  # 1.98 messages
    assert [shared.admit([("a", [LARGEST])], 1).refused for _ in range(2)] == [None, 0]
    shared.pass_time(TICK)
    assert shared.admit([("a", [LARGEST])], 1).refused is None
    shared.close()


def test_a_snapshot_of_an_earlier_process_gives_nothing_back(server: RedisServer) -> None:
    limit = Limit(1, DAY, 20)
    shared = Shared(server, full=False)
    assert shared.admit([("a", [limit])], 1).refused == 0
    shared.pass_time(20 * DAY * SECOND)
    assert shared.admit([("a", [limit])], 5).refused is None
    saved = shared.save()
    assert shared.admit([("a", [limit])], 15).refused is None
    shared.load(saved)
    assert shared.admit([("a", [limit])], 1).refused == 0
    shared.close()


def test_a_term_that_has_begun_is_not_filled(server: RedisServer) -> None:
    limit = Limit(1, DAY, 20)
    shared = Shared(server, full=False)
    assert shared.admit([("a", [limit])], 1).refused == 0
    shared.fill()
    assert shared.admit([("a", [limit])], 1).refused == 0
    shared.close()


def test_more_used_up_than_there_can_be_does_not_block_for_longer_than_a_filling(server: RedisServer) -> None:
    limit = Limit(5, 1, 20)
    shared = Shared(server)
    assert shared.admit([("a", [limit])], 20).refused is None
    saved = shared.save()
    head, record = saved["a"].decode().splitlines()
    words = record.split()
    shared.client.set(shared.key("a"), "\n".join([head, " ".join([*words[:4], f"{words[4]}000"])]))
    assert shared.admit([("a", [limit])], 1).refused == 0
    shared.pass_time(4 * SECOND)
    assert shared.admit([("a", [limit])], 20).refused is None
    shared.close()


@pytest.mark.parametrize("limit", [LARGEST, Limit(1, 31 * DAY, 10_000_000), Limit(7, DAY, 100_003)], ids=str)
def test_every_number_is_exact_in_a_double(server: RedisServer, limit: Limit) -> None:
    shared = Shared(server)
    assert shared.admit([("a", [limit])], limit.burst).refused is None
    _, record = shared.save()["a"].decode().splitlines()
    used = int(record.split()[4])
    assert used % limit.burst == 0
    assert used <= 2**52 < 10 * used, "the finest resolution that fits"
    shared.close()
