"""One suite for both kinds of counters: a guard's own, and those that all guards share in Redis."""

from collections.abc import Iterator

import pytest

from sendward.document import Limit
from sendward.guard.limiter import ADMITTED, Admission
from tests.guard.counters_lab import SECOND, Alone, Counters, Shared, left

DAYS_31 = 31 * 86400
COARSEST = 10_000  # µs: how late Redis may find that a token came back, with the largest limits


@pytest.fixture(params=["alone", pytest.param("shared", marks=pytest.mark.lab)])
def counters(request: pytest.FixtureRequest) -> Iterator[Counters]:
    if request.param == "alone":
        yield Alone()
        return
    shared = Shared(request.getfixturevalue("shared_redis"))
    yield shared
    shared.close()


def test_the_burst_passes_at_once_and_no_more(counters: Counters) -> None:
    limits = [Limit(messages=10, period=60, burst=25)]
    assert left(counters, "a", limits, 25) == 25


def test_tokens_come_back_at_the_rate(counters: Counters) -> None:
    limits = [Limit(messages=10, period=60, burst=25)]
    left(counters, "a", limits, 25)
    counters.pass_time(6 * SECOND - 1)
    assert counters.admit([("a", limits)]).refused == 0
    counters.pass_time(1)
    assert counters.admit([("a", limits)]) == ADMITTED
    counters.pass_time(3600 * SECOND)
    assert left(counters, "a", limits, 25) == 25


def test_a_subject_without_limits_passes(counters: Counters) -> None:
    assert counters.admit([("a", []), ("k", [])], 10**9) == ADMITTED


def test_subjects_do_not_share(counters: Counters) -> None:
    limits = [Limit(messages=1, period=60, burst=1)]
    assert [counters.admit([(uid, limits)]).refused for uid in ("a", "b", "a")] == [None, None, 0]


def test_all_limits_pay_or_none(counters: Counters) -> None:
    account, key = [Limit(messages=1, period=60, burst=5)], [Limit(messages=1, period=60, burst=2)]
    wanted = [("account", account), ("key", key)]
    assert [counters.admit(wanted).refused for _ in range(3)] == [None, None, 1]
    assert left(counters, "account", account, 5) == 3
    assert counters.admit(wanted).refused == 0


def test_the_position_is_that_of_the_subject_asked_for(counters: Counters) -> None:
    limits = [Limit(messages=1, period=60, burst=1)]
    wanted = [("account", []), ("key", limits)]
    assert counters.admit(wanted) == ADMITTED
    assert counters.admit(wanted) == Admission(refused=1, retry_after=60)


def test_several_periods_of_one_subject_hold_together(counters: Counters) -> None:
    limits = [
        Limit(messages=2, period=1, burst=2),
        Limit(messages=3, period=60, burst=3),
        Limit(messages=100, period=86400, burst=100),
    ]
    assert left(counters, "a", limits, 100) == 2
    counters.pass_time(SECOND)
    assert left(counters, "a", limits, 100) == 1
    counters.pass_time(20 * SECOND)
    assert left(counters, "a", limits, 100) == 1


def test_the_longest_wait_counts(counters: Counters) -> None:
    wanted = [("a", [Limit(messages=1, period=1, burst=1)]), ("k", [Limit(messages=1, period=60, burst=1)])]
    assert counters.admit(wanted) == ADMITTED
    assert counters.admit(wanted) == Admission(refused=0, retry_after=60)
    counters.pass_time(1)
    assert counters.admit(wanted) == Admission(refused=0, retry_after=60)


def test_what_never_fits_asks_for_a_second(counters: Counters) -> None:
    limits = [Limit(messages=1, period=3600, burst=5)]
    assert counters.admit([("a", limits)], 6) == Admission(refused=0, retry_after=1)
    assert counters.admit([("a", limits)], 5) == ADMITTED


def test_an_audited_limit_refuses_nothing_and_does_not_pay_beyond_its_tokens(counters: Counters) -> None:
    limits = [Limit(messages=1, period=60, burst=2, audit=True), Limit(messages=1, period=3600, burst=4)]
    asked = [counters.admit([("a", []), ("k", limits)]) for _ in range(5)]
    assert asked == [
        ADMITTED,
        ADMITTED,
        Admission(audited=1),
        Admission(audited=1),
        Admission(refused=1, retry_after=3600, audited=1),
    ]
    counters.pass_time(60 * SECOND)
    assert counters.admit([("a", limits[:1])]) == ADMITTED


def test_under_audit_no_limit_refuses(counters: Counters) -> None:
    wanted = [("a", [Limit(messages=1, period=60, burst=1)])]
    asked = [counters.admit(wanted, audit=True) for _ in range(3)]
    assert asked == [ADMITTED, Admission(audited=0), Admission(audited=0)]
    assert counters.admit(wanted) == Admission(refused=0, retry_after=60)


@pytest.mark.parametrize(("burst", "expected"), [(20, 4), (10, 4), (3, 3)])
def test_a_changed_limit_keeps_what_was_used_up(counters: Counters, burst: int, expected: int) -> None:
    before = [Limit(messages=10, period=60, burst=10)]
    assert counters.admit([("a", before)], 6) == ADMITTED
    after = [Limit(messages=50, period=60, burst=burst)]
    assert left(counters, "a", after, burst) == expected


def test_a_limit_with_another_period_keeps_what_was_used_up(counters: Counters) -> None:
    assert counters.admit([("a", [Limit(messages=10, period=60, burst=10)])], 6) == ADMITTED
    assert left(counters, "a", [Limit(messages=10, period=3600, burst=10)], 10) == 4


def test_limits_that_change_places_keep_their_tokens(counters: Counters) -> None:
    minute, hour = Limit(messages=5, period=60, burst=5), Limit(messages=9, period=3600, burst=9)
    assert counters.admit([("a", [minute, hour])], 4) == ADMITTED
    assert left(counters, "a", [hour], 9) == 5
    counters.pass_time(3600 * SECOND)
    assert left(counters, "a", [hour, minute], 9) == 5


def test_a_limit_that_is_added_begins_full(counters: Counters) -> None:
    first, second = Limit(messages=5, period=60, burst=5), Limit(messages=3, period=3600, burst=3)
    assert counters.admit([("a", [first])], 1) == ADMITTED
    assert left(counters, "a", [first, second], 5) == 3


EXTREMES = [
    Limit(messages=10_000_000, period=DAYS_31, burst=10_000_000),
    Limit(messages=1, period=DAYS_31, burst=10_000_000),
    Limit(messages=1, period=DAYS_31, burst=1),
    Limit(messages=10_000_000, period=1, burst=10_000_000),
    Limit(messages=10_000_000, period=1, burst=1),
    Limit(messages=9_999_991, period=DAYS_31 - 1, burst=9_999_973),
    Limit(messages=1, period=1, burst=1),
]


@pytest.mark.parametrize("limit", EXTREMES, ids=str)
def test_extreme_limits_are_exact(counters: Counters, limit: Limit) -> None:
    wanted = [("a", [limit])]
    assert counters.admit(wanted, limit.burst) == ADMITTED
    one = -(-limit.period * SECOND // limit.messages)  # µs, rounded up
    seconds = max(1, -(-limit.period // limit.messages))
    assert counters.admit(wanted) == Admission(refused=0, retry_after=seconds)
    if one > 1:
        counters.pass_time(one - one // 1000 - 1)
        assert counters.admit(wanted).refused == 0
    counters.pass_time(one // 1000 + 1 + COARSEST)
    assert counters.admit(wanted) == ADMITTED
    whole = -(-limit.burst * limit.period * SECOND // limit.messages)
    counters.pass_time(whole + SECOND)
    assert counters.admit(wanted, limit.burst) == ADMITTED
    assert counters.admit(wanted).refused == 0
