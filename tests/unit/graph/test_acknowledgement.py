"""Who counts, and when a change is in force."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sendward.graph.acknowledgement import Ack, Rejected, acknowledged, expected
from sendward.graph.facts import Guard, PartState, Pod

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POD = Pod("a", "tenant", "gw-a", "gw", ready=True, terminating=False, injected=True)


def guard(
    uid: str, order: tuple[int, int] = (2, 5), *, connected: bool = True, ago: int = 0, rejected: str = ""
) -> Guard:
    contact = NOW - timedelta(seconds=ago)
    return Guard(uid, connected, contact, {"0": PartState(*order, "digest", rejected)})


@pytest.mark.parametrize(
    ("pod", "counts"),
    [
        (POD, True),
        (replace(POD, ready=False), False),
        (replace(POD, terminating=True), False),
        (replace(POD, injected=False), False),
    ],
)
def test_ready_injected_pods_that_stay_are_expected(pod: Pod, counts: bool) -> None:
    assert expected([pod], {"a": guard("a")}, 60, NOW) == (frozenset("a") if counts else frozenset())


@pytest.mark.parametrize(
    ("known", "stale_after", "counts"),
    [
        (None, 60, True),  # never spoke to this leader: it may judge by an older document
        (guard("a", connected=False, ago=59), 60, True),
        (guard("a", connected=False, ago=60), 60, False),
        (guard("a", connected=False, ago=10**8), None, True),
        (guard("a", connected=True, ago=60), 60, True),
    ],
)
def test_a_guard_that_is_cut_off_counts_until_it_is_stale(
    known: Guard | None, stale_after: int | None, counts: bool
) -> None:
    guards = {"a": known} if known else {}
    assert bool(expected([POD], guards, stale_after, NOW)) is counts


def test_a_guard_whose_pod_is_gone_does_not_count() -> None:
    assert expected([], {"a": guard("a")}, None, NOW) == frozenset()


def test_with_nobody_expected_nothing_waits() -> None:
    assert acknowledged(frozenset(), {"a": guard("a")}, "0", (9, 9)) is Ack.NONE_EXPECTED


@pytest.mark.parametrize(
    ("at_least", "state"),
    [((2, 5), Ack.ALL), ((2, 4), Ack.ALL), ((1, 99), Ack.ALL), ((2, 6), Ack.PENDING), ((3, 1), Ack.PENDING)],
)
def test_epoch_before_revision(at_least: tuple[int, int], state: Ack) -> None:
    guards = {"a": guard("a"), "b": guard("b", (2, 7), connected=False)}
    assert acknowledged(frozenset("ab"), guards, "0", at_least) is state


def test_everybody_must_have_it() -> None:
    guards = {"a": guard("a")}
    assert acknowledged(frozenset("ab"), guards, "0", (1, 1)) is Ack.PENDING
    assert acknowledged(frozenset("a"), guards, "1", (1, 1)) is Ack.PENDING


def test_a_refusal_is_said_first() -> None:
    guards = {"a": guard("a", (1, 1)), "b": guard("b", (1, 1), rejected="bad"), "c": guard("c", rejected="x")}
    assert acknowledged(frozenset("abc"), guards, "0", (2, 5)) == Rejected("b", "bad")


def test_a_refusal_of_something_newer_does_not_matter() -> None:
    assert acknowledged(frozenset("a"), {"a": guard("a", rejected="bad")}, "0", (2, 5)) is Ack.ALL
