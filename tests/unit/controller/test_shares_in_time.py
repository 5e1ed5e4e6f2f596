"""Over 1, 2 and 5 pods, in simulated time: no window has more than the limit, whatever happens.

The bound, for every window of length w: `burst + rate * w` messages. The one exception is a new guard
that the hub gives nothing within three seconds; these tests forbid it, or count it.
"""

from __future__ import annotations

import random

import pytest

from sendward.document import Limit
from tests.fakes.fleet import GUESS, SECOND, Fleet

LIMITS = (
    Limit(messages=10, period=1, burst=10),
    Limit(messages=30, period=10, burst=30),
    Limit(messages=20, period=10, burst=3),
    Limit(messages=1000, period=86400, burst=1000),
    Limit(messages=1, period=1, burst=1),
)
LIVES = 25
STEPS = 60
PAUSES = (SECOND // 100, SECOND // 3, 5 * SECOND, 60 * SECOND, 3600 * SECOND)


class Life:
    """Pods join, leave, are killed, cut off and found again, leaders change, while load comes anywhere."""

    def __init__(self, limit: Limit, seed: int) -> None:
        self.random = random.Random(seed)
        self.fleet = Fleet(limit, new=self.random.random() < 0.7)
        self.count = 0
        self.join()
        self.join()
        self.fleet.run(SECOND)

    def step(self) -> None:
        steps = (self.join, self.leave, self.kill, self.cut, self.reconnect, self.fleet.take_over)
        traffic = (self.quiet, self.burst, self.load, self.load)
        self.random.choice((*steps, *traffic))()

    def _pod(self) -> str:
        return self.random.choice(sorted(self.fleet.pods))

    def join(self) -> None:
        if len(self.fleet.pods) < 5:
            self.count += 1
            self.fleet.join(f"pod-{self.count}")

    def leave(self) -> None:
        if len(self.fleet.pods) > 1:
            self.fleet.leave(self._pod(), in_order=self.random.random() < 0.5)

    def kill(self) -> None:
        name = self._pod()
        for _ in range(self.random.randint(1, 5)):
            self.fleet.restart(name)
            self.fleet.run(self.fleet.now + self.random.choice(PAUSES[:2]))
            self.flood(name, 3)

    def cut(self) -> None:
        name = self._pod()
        # A guard that never was given a share would guess: the exception.
        if self.fleet.pods[name].held is not None:
            self.fleet.cut(name)

    def reconnect(self) -> None:
        for name, pod in self.fleet.pods.items():
            if not pod.hub and self.random.random() < 0.5:
                self.fleet.reconnect(name)

    def quiet(self) -> None:
        """Not long enough at once for a guard to guess before the hub had a chance."""
        end = self.fleet.now + self.random.choice(PAUSES)
        while self.fleet.now < end:
            self.fleet.run(min(end, self.fleet.now + GUESS // 2))

    def burst(self) -> None:
        self.flood(self._pod(), self.random.randint(1, 60))

    def load(self) -> None:
        only, spread = self._pod(), self.random.random() < 0.5
        for _ in range(self.random.randint(1, 6) * 10):
            self.fleet.run(self.fleet.now + SECOND // 10)
            for name in self.fleet.pods:
                if spread or name == only:
                    self.flood(name, 2)

    def flood(self, name: str, count: int) -> None:
        for _ in range(count):
            self.fleet.send(name, self.random.randint(1, 2))


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: f"{limit.messages}-per-{limit.period}s")
def test_no_window_has_more_than_the_limit_whatever_happens(limit: Limit) -> None:
    """Nor could one: all tokens that guards have are no more than one exact counter would have."""
    checked = 0
    for seed in range(LIVES):
        life = Life(limit, seed)
        for number in range(STEPS):
            life.step()
            if life.fleet.guesses:  # the exception
                break
            assert life.fleet.closest >= 0, (seed, number)
            assert life.fleet.tokens() <= life.fleet.exact.left(life.fleet.now), (seed, number)
            checked += 1
    assert checked > LIVES * STEPS / 4


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
