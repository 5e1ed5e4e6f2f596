"""Clocks that are an hour off or jump: no key is cut off or lives on because of it (I1, I2), and no
rotation happens twice (I7). Guards and operator each have a clock of their own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from sendward.errors import Unavailable
from sendward.protocol import Report
from tests.core.watched import POLICY, Watched

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SKEWS = pytest.mark.parametrize("skew", [HOUR, -HOUR], ids=["ahead", "behind"])


@pytest.fixture
def world() -> Iterator[Watched]:
    world = Watched()
    world.add_guard("p1", "sms")
    world.add_guard("p2", "sms")
    world.declare()
    world.settle()
    world.keep = {world.id_of(1)}
    yield world
    world.close()


def _through_an_overlap(world: Watched) -> None:
    """A rotation by nonce; the old version is accepted for a day less an hour, and not after two."""
    first, began = world.id_of(1), world.clock.moment
    world.change("APIKey", "k", rotateNonce="1")
    world.settle()
    assert world.versions() == [(1, "Previous"), (2, "Current")]
    world.keep.add(world.id_of(2))
    world.wait(DAY - HOUR - (world.clock.moment - began) - timedelta(minutes=1))
    world.keep.discard(first)
    world.wait(DAY + HOUR)
    world.refuse.add(first)
    world.settle()
    assert world.versions() == [(1, "Retired"), (2, "Current")]
    world.judge_end()


@SKEWS
def test_an_operator_that_is_an_hour_off(world: Watched, skew: timedelta) -> None:
    world.skewed.ahead = skew
    world.start()
    _through_an_overlap(world)


@SKEWS
def test_guards_that_are_an_hour_off(world: Watched, skew: timedelta) -> None:
    world.guards_ahead = skew
    _through_an_overlap(world)


@SKEWS
def test_operator_and_guards_that_disagree_by_an_hour_at_the_maximum_age(
    world: Watched, skew: timedelta
) -> None:
    """The next version is there before a guard, by its own clock, ends the old one."""
    world.change("APIKeyPolicy", "std", rotation={"overlap": "24h"}, maximumAge="30d")
    world.guards_ahead = skew
    world.wait(29 * DAY - HOUR, every=timedelta(hours=6))
    assert world.versions() == [(1, "Current")]
    world.wait(2 * HOUR)
    assert world.versions() == [(1, "Previous"), (2, "Current")]
    first, second = world.id_of(1), world.id_of(2)
    world.keep = {second}
    world.wait(DAY + HOUR)
    world.refuse.add(first)
    world.settle()
    world.judge_end()


@pytest.mark.parametrize("jump", [-HOUR, HOUR, -40 * DAY, 40 * DAY], ids=str)
def test_a_jump_in_mid_overlap_issues_nothing_twice(world: Watched, jump: timedelta) -> None:
    """By the schedule of 30 days. Whatever the clock says, the newest version is accepted."""
    world.wait(30 * DAY + HOUR, every=timedelta(hours=6))
    assert world.versions() == [(1, "Previous"), (2, "Current")]
    world.keep = {world.id_of(2)}
    world.wait(6 * HOUR)
    world.skewed.ahead = jump
    world.wait(6 * HOUR)
    world.skewed.ahead = timedelta()
    world.wait(3 * DAY)
    issued = 3 if jump > 30 * DAY else 2  # by a clock that said so for six hours
    assert [number for number, _ in world.versions()] == list(range(1, issued + 1))
    assert world.vault.written == issued
    world.keep = {world.id_of(issued)}
    world.wait(20 * DAY, every=timedelta(hours=6))
    assert len(world.versions()) <= 4
    world.judge_end()


@SKEWS
def test_a_version_in_use_is_not_retired_by_a_guard_with_another_clock(
    world: Watched, skew: timedelta
) -> None:
    """`retireWhenUnusedFor`: when it was used, the hub says, and not the clock of a guard."""
    world.change("APIKeyPolicy", "std", rotation={**POLICY["rotation"], "retireWhenUnusedFor": "30m"})
    world.change("APIKey", "k", rotateNonce="1")
    world.settle()
    first = world.id_of(1)
    gateway = world.gateway_uid("sms")
    state = world.hub.states[gateway]
    for _ in range(60):
        world.pass_time(timedelta(minutes=5))
        now = world.clock.now()
        used = {first: int((now + skew).timestamp())}
        state.report("uid-p1", Report({}, used), now, world.clock.monotonic())
        world.steps.used(gateway, dict(state.last_used))
        state.last_used.clear()
        world.settle()
    assert world.versions() == [(1, "Previous"), (2, "Current")]
    world.keep = {world.id_of(2)}
    world.wait(HOUR)
    assert world.versions() == [(1, "Retired"), (2, "Current")]


@pytest.mark.parametrize("jump", [-HOUR, -12 * HOUR, HOUR], ids=str)
def test_a_jump_holds_up_nothing_that_is_tried_again(world: Watched, jump: timedelta) -> None:
    world.faulty.refuses = lambda _operation, _path: Unavailable("sealed")
    world.change("APIKey", "k", rotateNonce="1")
    world.wait(timedelta(minutes=10), every=timedelta(minutes=1))
    world.skewed.ahead = jump
    world.faulty.heal()
    world.wait(timedelta(minutes=3), every=timedelta(seconds=10))
    assert world.versions() == [(1, "Previous"), (2, "Current")]
