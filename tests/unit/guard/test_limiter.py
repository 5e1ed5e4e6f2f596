"""Limits: exact against brute force, also when shares move between guards."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sendward.document import Limit
from sendward.guard.limiter import NO_TOKENS, Admission, Limiter, fill_time
from sendward.protocol import PPM, Portions

SECOND = 1_000_000_000


def limiter(*limits: Limit, share: int = PPM) -> Limiter:
    made = Limiter()
    made.expect(max((fill_time(limit) for limit in limits), default=0))
    made.set_shares(0, share, {}, Portions(share))
    return made


def admit(of: Limiter, now: int, *limits: Limit, cost: int = 1, uid: str = "a") -> bool:
    return of.admit(now, [(uid, limits)], cost).refused is None


limits = st.builds(
    Limit,
    messages=st.integers(1, 20),
    period=st.sampled_from([1, 7, 60]),
    burst=st.integers(1, 20),
)


def within(limit: Limit, taken: list[tuple[int, int]]) -> bool:
    """Brute force: no window admits more than burst + rate * length."""
    for first, (start, _) in enumerate(taken):
        total = 0
        for end, cost in taken[first:]:
            total += cost
            allowed = limit.burst + Fraction(limit.messages * (end - start), limit.period * SECOND)
            if total > allowed:
                return False
    return True


steps = st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 4)), min_size=1, max_size=60)


@given(limits, steps)
def test_no_window_exceeds_the_limit(limit: Limit, steps: list[tuple[int, int]]) -> None:
    subject, now, taken = limiter(limit), 0, []
    for pause, cost in steps:
        now += pause
        if admit(subject, now, limit, cost=cost):
            taken.append((now, cost))
    assert within(limit, taken)


@given(limits, steps, st.integers(0, PPM))
def test_retry_after_is_exact(limit: Limit, steps: list[tuple[int, int]], share: int) -> None:
    subject, now = limiter(limit, share=share), 0
    for pause, cost in steps:
        now += pause
        answer = subject.admit(now, [("a", [limit])], cost)
        if answer.refused is None:
            continue
        assert answer.retry_after >= 1
        if cost <= limit.burst * share // PPM:
            now += answer.retry_after * SECOND
            assert admit(subject, now, limit, cost=cost)


moves = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 2), st.integers(0, SECOND)),
        st.tuples(st.just("move"), st.integers(0, 2), st.integers(0, PPM)),
        st.tuples(st.just("sweep"), st.integers(0, 2), st.integers(0, 40 * SECOND)),
        st.tuples(st.just("restart"), st.integers(0, 2), st.integers(0, SECOND)),
    ),
    max_size=80,
)


@settings(max_examples=300)
@given(limits, moves, st.booleans())
def test_shares_that_move_never_exceed_the_limit(
    limit: Limit, moves: list[tuple[str, int, int]], listed: bool
) -> None:
    """Three guards; a move takes from one (first) and gives what is free to another, with its tokens."""
    shares = [PPM // 3] * 3
    guards = [limiter(limit, share=share) for share in shares]
    now, taken = 0, []

    def put(index: int, share: int, tokens: Portions = NO_TOKENS) -> int:
        shares[index] = share
        default, subjects = (PPM // 3, {"a": share}) if listed else (share, {})
        freed = guards[index].set_shares(now, default, subjects, tokens)
        return freed.subjects.get("a", freed.default)

    for kind, index, amount in moves:
        match kind:
            case "send":
                now += amount
                if admit(guards[index], now, limit):
                    taken.append((now, 1))
            case "move":
                tokens = put(index, min(shares[index], amount))
                other = (index + 1) % 3
                put(other, PPM - sum(shares) + shares[other], Portions(0, {"a": tokens}))
            case "restart":
                guards[index] = limiter(limit, share=0)
                put(index, shares[index])
            case _:
                now += amount
                guards[index].sweep(now)
    assert within(limit, taken)


def test_share_scales_rate_and_burst() -> None:
    limit = Limit(messages=10, period=1, burst=10)
    half = limiter(limit, share=PPM // 2)
    assert [admit(half, 0, limit) for _ in range(6)] == [True] * 5 + [False]
    assert admit(half, SECOND // 5, limit)
    assert not admit(half, SECOND // 5 + 1, limit)


def test_smaller_share_takes_tokens_and_a_larger_one_gives_none() -> None:
    limit = Limit(messages=1, period=60, burst=10)
    subject = limiter(limit)
    subject.set_shares(0, PPM // 5, {})
    subject.set_shares(0, PPM, {})
    assert [admit(subject, 0, limit) for _ in range(3)] == [True, True, False]


def test_a_smaller_share_gives_up_tokens_in_proportion_and_says_so() -> None:
    limit = Limit(messages=1, period=60, burst=100)
    subject = limiter(limit)
    assert admit(subject, 0, limit, cost=60)
    freed = subject.set_shares(0, PPM // 4, {})
    assert freed == Portions(PPM * 3 // 4, {"a": 300_000})
    assert [admit(subject, 0, limit, cost=cost) for cost in (11, 10, 1)] == [False, True, False]
    assert subject.set_shares(0, PPM, {}, freed) == Portions()
    assert [admit(subject, 0, limit, cost=cost) for cost in (31, 30, 1)] == [False, True, False]
    assert admit(subject, 0, limit, cost=100, uid="unseen")


def test_what_is_given_up_is_what_every_limit_of_the_subject_can_give() -> None:
    minute, day = Limit(messages=10, period=60, burst=10), Limit(messages=100, period=86400, burst=100)
    subject = limiter(minute, day)
    assert admit(subject, 0, minute, day, cost=9)
    assert subject.set_shares(0, PPM // 2, {}).subjects == {"a": 50_000}


def test_a_share_without_tokens_starts_empty() -> None:
    limit = Limit(messages=10, period=1, burst=10)
    subject = Limiter()
    subject.expect(fill_time(limit))
    subject.set_shares(0, PPM, {})
    assert not admit(subject, 0, limit)
    assert admit(subject, SECOND // 10, limit)


def test_more_subjects_than_fit_give_up_less_and_never_more() -> None:
    limit = Limit(messages=1, period=3600, burst=10)
    subject = limiter(limit)
    for number in range(5000):
        admit(subject, 0, limit, cost=1 + number % 3, uid=f"account-{number}")
    assert subject.set_shares(0, PPM // 2, {}) == Portions(350_000)


@pytest.mark.parametrize("share", [0, PPM // 20])
def test_no_capacity_asks_for_patience(share: int) -> None:
    limit = Limit(messages=10, period=1, burst=10)
    assert limiter(limit, share=share).admit(0, [("a", [limit])], 1) == Admission(refused=0, retry_after=1)


def test_without_shares_nothing_is_admitted() -> None:
    limit = Limit(messages=10, period=1, burst=10)
    assert not admit(Limiter(), 0, limit)


def test_all_or_nothing_over_account_and_key() -> None:
    account, key = Limit(messages=1, period=60, burst=5), Limit(messages=1, period=60, burst=2)
    subject = limiter(account, key)
    wanted = [("account", [account]), ("key", [key])]
    assert [subject.admit(0, wanted, 1).refused for _ in range(3)] == [None, None, 1]
    assert [admit(subject, 0, account, uid="account") for _ in range(4)] == [True, True, True, False]
    assert subject.admit(0, wanted, 1).refused == 0


def test_the_longest_wait_counts() -> None:
    short, long = Limit(messages=1, period=1, burst=1), Limit(messages=1, period=60, burst=1)
    subject = limiter(short, long)
    wanted = [("a", [short]), ("k", [long])]
    assert subject.admit(0, wanted, 1).refused is None
    assert subject.admit(0, wanted, 1) == Admission(refused=0, retry_after=60)


def test_audited_limits_count_and_let_pass() -> None:
    audited = Limit(messages=1, period=60, burst=1, audit=True)
    subject = limiter(audited)
    answers = [subject.admit(0, [("a", [audited])], 1) for _ in range(2)]
    assert answers == [Admission(), Admission(audited=0)]
    assert subject.admit(60 * SECOND, [("a", [audited])], 1) == Admission()


def test_audit_mode_covers_enforced_limits() -> None:
    limit = Limit(messages=1, period=60, burst=1)
    subject = limiter(limit)
    answers = [subject.admit(0, [("a", [limit])], 1, audit=True) for _ in range(2)]
    assert answers == [Admission(), Admission(audited=0)]


@pytest.mark.parametrize(
    "changed",
    [
        Limit(messages=2, period=60, burst=10),
        Limit(messages=1, period=60, burst=20),
        Limit(messages=1, period=30, burst=10),
    ],
)
def test_a_changed_limit_keeps_what_is_used_up(changed: Limit) -> None:
    before = Limit(messages=1, period=60, burst=10)
    subject = limiter(before, changed)
    assert admit(subject, 0, before, cost=9)
    assert [admit(subject, 0, changed) for _ in range(2)] == [True, False]


def test_reordered_limits_keep_their_counters() -> None:
    minute, day = Limit(messages=5, period=60, burst=5), Limit(messages=100, period=86400, burst=100)
    subject = limiter(minute, day)
    assert admit(subject, 0, minute, day, cost=4)
    assert not admit(subject, 0, day, minute, cost=2)
    assert admit(subject, 0, day, cost=96)


def test_an_added_limit_begins_full_and_the_others_stay() -> None:
    minute, day = Limit(messages=5, period=60, burst=5), Limit(messages=100, period=86400, burst=100)
    subject = limiter(minute, day)
    assert admit(subject, 0, minute, cost=5)
    assert not admit(subject, 0, minute, day)
    assert admit(subject, 12 * SECOND, minute, day)


def test_time_that_runs_backwards_earns_nothing() -> None:
    limit = Limit(messages=1, period=1, burst=1)
    subject = limiter(limit)
    assert admit(subject, 10 * SECOND, limit)
    assert not admit(subject, 5 * SECOND, limit)
    assert not admit(subject, 10 * SECOND + SECOND // 2, limit)


def test_full_idle_counters_are_forgotten() -> None:
    limit = Limit(messages=1, period=1, burst=5)
    subject = limiter(limit)
    for number in range(100):
        admit(subject, 0, limit, uid=f"account-{number}")
    subject.sweep(SECOND // 2)
    assert len(subject) == 100
    subject.sweep(5 * SECOND)
    assert len(subject) == 0


def test_what_nobody_has_used_yet_is_given_up_as_well() -> None:
    """Of a share that came with 2/5 of its tokens, half goes with 2/5 of its own: the sum stays."""
    limit = Limit(messages=1, period=3600, burst=100)
    subject = Limiter()
    subject.expect(fill_time(limit))
    subject.set_shares(0, PPM // 2, {}, Portions(200_000))
    freed = subject.set_shares(0, PPM // 4, {})
    assert freed == Portions(100_000)
    assert [admit(subject, 0, limit, cost=cost) for cost in (11, 10, 1)] == [False, True, False]


def test_tokens_for_one_that_was_never_seen_here_are_its_own() -> None:
    """Others freed less of it than of the rest; its share is that of the rest."""
    limit = Limit(messages=1, period=3600, burst=100)
    subject = Limiter()
    subject.expect(fill_time(limit))
    subject.set_shares(0, PPM // 2, {}, Portions(PPM // 2, {"a": 30_000}))
    assert [admit(subject, 0, limit, cost=cost) for cost in (4, 3, 1)] == [False, True, False]
    assert admit(subject, 0, limit, cost=50, uid="b")
