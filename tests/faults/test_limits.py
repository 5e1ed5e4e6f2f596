"""Limits over 1, 2 and 5 gateway pods: how near to the limit, under which load; never above it.

Simulated time over the real `GatewayShares` and `Limiter`. `pytest -s` prints the table. "Left" is the
least that was left of `burst + rate * w` over all windows w of the run, in messages: below 0 the limit was
exceeded. "Used" is what passed, as a part of what one exact counter would have let pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from sendward.document import Limit
from tests.fakes.fleet import SECOND, Fleet

SECONDS = 90
OVERLOAD = 2  # times the limit is asked for

Pick = Callable[[int, int, int], int]  # message number, second, pods: the pod that is asked

LOADS: dict[str, Pick] = {
    "steady": lambda number, _second, pods: number % pods,
    "skewed": lambda _number, _second, _pods: 0,
    "shifting, 30 s": lambda _number, second, pods: second // 30 % pods,
    "shifting, 10 s": lambda _number, second, pods: second // 10 % pods,
}


@dataclass(frozen=True)
class Row:
    """A limit and the least of it that must be used with 1, 2 and 5 pods, by load."""

    limit: Limit
    used: dict[str, tuple[float, float, float]]


ROWS = (
    Row(
        Limit(messages=100, period=1, burst=100),
        {
            "steady": (0.99, 0.99, 0.99),
            "skewed": (0.99, 0.97, 0.94),
            "shifting, 30 s": (0.99, 0.94, 0.92),
            "shifting, 10 s": (0.99, 0.88, 0.85),
        },
    ),
    Row(
        Limit(messages=30, period=10, burst=30),
        {
            "steady": (0.99, 0.98, 0.97),
            "skewed": (0.99, 0.95, 0.97),
            "shifting, 30 s": (0.99, 0.96, 0.96),
            "shifting, 10 s": (0.99, 0.96, 0.95),
        },
    ),
    Row(
        Limit(messages=20, period=10, burst=4),
        {
            "steady": (0.99, 0.84, 0.75),
            "skewed": (0.99, 0.97, 0.97),
            "shifting, 30 s": (0.99, 0.85, 0.85),
            "shifting, 10 s": (0.99, 0.69, 0.68),
        },
    ),
    Row(
        Limit(messages=10_000, period=86400, burst=1000),
        {
            "steady": (0.99, 0.98, 0.95),
            "skewed": (0.99, 0.98, 0.98),
            "shifting, 30 s": (0.99, 0.9, 0.9),
            "shifting, 10 s": (0.99, 0.85, 0.85),
        },
    ),
)


def offered(limit: Limit) -> int:
    """Nanoseconds between two messages."""
    per_run = limit.messages * SECONDS / limit.period + limit.burst
    return int(SECONDS * SECOND / per_run / OVERLOAD)


def drive(fleet: Fleet, pick: Callable[[int, int], str], until: int) -> None:
    """Messages at an even pace until then."""
    gap, number = offered(fleet.limit), 0
    while fleet.now < until:
        fleet.run(fleet.now + gap)
        number += 1
        fleet.send(pick(number, fleet.now // SECOND))


def started(limit: Limit, pods: int) -> Fleet:
    fleet = Fleet(limit)
    for number in range(pods):
        fleet.join(f"pod-{number}")
    fleet.run(2 * SECOND)
    return fleet


def line(name: str, pods: int, fleet: Fleet) -> str:
    limit = fleet.limit
    said = f"{limit.messages}/{limit.period}s burst {limit.burst}"
    return f"| {said:<24} | {name:<34} | {pods} | {fleet.closest:>7.1f} | {fleet.utilisation:>6.1%} |"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.limit.messages}-per-{row.limit.period}s")
@pytest.mark.parametrize("load", LOADS)
def test_no_window_is_above_the_limit_and_most_of_it_is_used(load: str, row: Row) -> None:
    for pods, least in zip((1, 2, 5), row.used[load], strict=True):
        fleet = started(row.limit, pods)
        drive(fleet, lambda n, s, pods=pods: f"pod-{LOADS[load](n, s, pods)}", SECONDS * SECOND)  # type: ignore[misc]
        print(line(load, pods, fleet))
        assert fleet.closest >= 0
        assert fleet.utilisation >= least


# --- while something happens --------------------------------------------------------------------


def rollout(fleet: Fleet, second: int) -> None:
    """Every pod is replaced, one each 15 s: the new one first."""
    number, phase = divmod(second, 15)
    names = sorted(fleet.pods)
    if phase == 0:
        fleet.join(f"pod-{number + 10}")
    elif phase == 7 and len(names) > 1:
        fleet.leave(names[0])


def kills(fleet: Fleet, second: int) -> None:
    """A guard is killed every 5 s, each in its turn."""
    if second % 5 == 0:
        names = sorted(fleet.pods)
        fleet.restart(names[second // 5 % len(names)])


def cuts(fleet: Fleet, second: int) -> None:
    """The hub is away for all from 20 s to 80 s."""
    for name in fleet.pods:
        if second == 20:
            fleet.cut(name)
        elif second == 80:
            fleet.reconnect(name)


def failover(fleet: Fleet, second: int) -> None:
    """Another leader every 20 s."""
    if second % 20 == 0:
        fleet.take_over()


def scaling(fleet: Fleet, second: int) -> None:
    """One more pod every 10 s up to five, then one less, again and again."""
    step, phase = divmod(second, 10)
    if phase == 0 and step:
        if step // 4 % 2 == 0:
            fleet.join(f"scaled-{step}")
        elif len(fleet.pods) > 1:
            fleet.leave(sorted(fleet.pods)[-1])


EVENTS: dict[str, tuple[Callable[[Fleet, int], None], float, float]] = {
    "pods replaced one by one": (rollout, 0.98, 0.95),
    "a guard killed every 5 s": (kills, 0.95, 0.03),  # a kill empties its buckets, and a day's fill slowly
    "hub away for 60 s": (cuts, 0.98, 0.98),
    "another leader every 20 s": (failover, 0.98, 0.98),
    "pods come and go every 10 s": (scaling, 0.98, 0.9),
}


@pytest.mark.parametrize("event", EVENTS)
def test_no_window_is_above_the_limit_while_something_happens(event: str) -> None:
    """Load spread over the pods that are there; 100 a second, and 10,000 a day."""
    happens, *used = EVENTS[event]
    for limit, least in zip((ROWS[0].limit, ROWS[3].limit), used, strict=True):
        for pods in (1, 2, 5):
            fleet = started(limit, pods)
            for second in range(3, SECONDS):
                happens(fleet, second)
                names = sorted(fleet.pods)
                drive(fleet, lambda n, _s, names=names: names[n % len(names)], second * SECOND)  # type: ignore[misc]
            print(line(event, pods, fleet))
            assert fleet.closest >= 0
            assert fleet.guesses == 0
            assert fleet.utilisation >= least
