"""Over 1, 2 and 5 pods, in simulated time: no window has more than the limit, whatever happens.

The bound, for every window of length w: `burst + rate * w` messages. The one exception is a new guard
that the hub gives nothing within three seconds; these tests forbid it, or count it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sendward.document import Limit
from tests.fakes.fleet import GUESS, SECOND, Fleet

LIMITS = (
    Limit(messages=10, period=1, burst=10),
    Limit(messages=30, period=10, burst=30),
    Limit(messages=20, period=10, burst=3),
    Limit(messages=1000, period=86400, burst=1000),
    Limit(messages=1, period=1, burst=1),
)


class Life(RuleBasedStateMachine):
    """Pods join, leave, are killed, cut off and found again, leaders change, while load comes anywhere."""

    @initialize(limit=st.sampled_from(LIMITS), new=st.booleans())
    def start(self, limit: Limit, new: bool) -> None:
        self.fleet = Fleet(limit, new=new)
        self.count = 0
        for _ in range(2):
            self.join()
        self.fleet.run(SECOND)

    def _pick(self, data: st.DataObject, fits: Callable[[str], bool] = lambda _: True) -> str | None:
        found = sorted(name for name in self.fleet.pods if fits(name))
        return data.draw(st.sampled_from(found)) if found else None

    @precondition(lambda self: len(self.fleet.pods) < 5)
    @rule()
    def join(self) -> None:
        self.count += 1
        self.fleet.join(f"pod-{self.count}")

    @rule(data=st.data(), in_order=st.booleans())
    def leave(self, data: st.DataObject, in_order: bool) -> None:
        if name := self._pick(data):
            self.fleet.leave(name, in_order=in_order)

    @rule(data=st.data(), times=st.integers(1, 5), every=st.sampled_from((SECOND // 100, SECOND)))
    def killed_again_and_again(self, data: st.DataObject, times: int, every: int) -> None:
        if name := self._pick(data):
            for _ in range(times):
                self.fleet.restart(name)
                self.fleet.run(self.fleet.now + every)
                self.flood(name, 3)

    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        # A guard that never was given a share would guess: the exception.
        if name := self._pick(data, lambda name: self.fleet.pods[name].held is not None):
            self.fleet.cut(name)

    @rule(data=st.data())
    def reconnect(self, data: st.DataObject) -> None:
        if name := self._pick(data, lambda name: not self.fleet.pods[name].hub):
            self.fleet.reconnect(name)

    @rule()
    def take_over(self) -> None:
        self.fleet.take_over()

    @rule(gap=st.sampled_from((SECOND // 100, SECOND // 3, 5 * SECOND, 60 * SECOND, 3600 * SECOND)))
    def quiet(self, gap: int) -> None:
        self._run(gap)

    @rule(data=st.data(), count=st.integers(1, 60))
    def burst(self, data: st.DataObject, count: int) -> None:
        if name := self._pick(data):
            self.flood(name, count)

    @rule(data=st.data(), seconds=st.integers(1, 6), spread=st.booleans())
    def load(self, data: st.DataObject, seconds: int, spread: bool) -> None:
        only = self._pick(data)
        for _ in range(seconds * 10):
            self._run(SECOND // 10)
            for name in list(self.fleet.pods):
                if spread or name == only:
                    self.flood(name, 2)

    def flood(self, name: str, count: int) -> None:
        for _ in range(count):
            self.fleet.send(name, 1 + count % 2)

    def _run(self, nanoseconds: int) -> None:
        """Not long enough at once for a guard to guess before the hub had a chance."""
        end = self.fleet.now + nanoseconds
        while self.fleet.now < end:
            self.fleet.run(min(end, self.fleet.now + GUESS // 2))

    @invariant()
    def no_window_has_more_than_the_limit(self) -> None:
        if self.fleet.guesses == 0:
            assert self.fleet.closest >= 0


Life.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestLife = Life.TestCase


def test_a_guard_that_is_killed_in_a_loop_lets_no_more_pass() -> None:
    """Ten kills a second for a minute; the counters start empty each time."""
    fleet = Fleet(Limit(messages=10, period=1, burst=10))
    fleet.join("one")
    fleet.run(SECOND)
    for _ in range(600):
        for _ in range(5):
            fleet.send("one")
        fleet.restart("one")
        fleet.run(fleet.now + SECOND // 10)
    assert fleet.closest >= 0
    assert fleet.exact.accepted < fleet.ideal.accepted
    fleet.run(fleet.now + 2 * SECOND)
    assert fleet.send("one")


def test_the_exception_a_new_pod_without_hub_takes_a_careful_part() -> None:
    """Documented: its part of the limit, limit / (pods + 1), comes on top."""
    limit = Limit(messages=10, period=1, burst=10)
    fleet = Fleet(limit)
    fleet.join("one")
    fleet.run(SECOND)
    fleet.cut("one")
    fleet.join("two", hub=False)
    for tick in range(1, 200):
        fleet.run(SECOND + tick * SECOND // 20)
        fleet.send("one")
        fleet.send("two")
    assert fleet.guesses == 1
    assert fleet.closest < 0
    seconds = fleet.now // SECOND
    assert fleet.exact.accepted <= (limit.burst + limit.messages * seconds) * 4 // 3


def test_a_kill_loop_without_hub_does_not_refill_the_guess() -> None:
    limit = Limit(messages=1, period=60, burst=100)
    fleet = Fleet(limit)
    fleet.join("one", hub=False)
    for _ in range(5):
        fleet.run(fleet.now + GUESS + SECOND)
        for _ in range(100):
            fleet.send("one")
        fleet.restart("one")
    assert fleet.exact.accepted <= 50


@pytest.mark.parametrize("pods", [1, 2, 5])
def test_pods_that_are_replaced_one_by_one_keep_what_is_unused(pods: int) -> None:
    """A rollout with a daily limit: nobody gains by it, and nearly nothing that is unused is lost."""
    fleet = Fleet(Limit(messages=1000, period=86400, burst=1000))
    for number in range(pods):
        fleet.join(f"old-{number}")
    fleet.run(5 * SECOND)
    for number in range(pods):
        fleet.join(f"new-{number}")
        fleet.run(fleet.now + 5 * SECOND)
        fleet.leave(f"old-{number}")
        fleet.run(fleet.now + 5 * SECOND)
    for _ in range(1000):
        for number in range(pods):
            fleet.send(f"new-{number}")
    assert fleet.closest >= 0
    assert fleet.exact.accepted >= 980


def test_a_pod_that_dies_takes_its_tokens_with_it() -> None:
    """Nobody knows how many it had left."""
    fleet = Fleet(Limit(messages=1000, period=86400, burst=1000))
    fleet.join("one")
    fleet.join("two")
    fleet.run(SECOND)
    fleet.leave("one", in_order=False)
    fleet.run(2 * SECOND)
    for _ in range(1000):
        fleet.send("two")
    assert 490 <= fleet.exact.accepted <= 500
