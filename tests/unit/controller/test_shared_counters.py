"""Counters that all guards share, in simulated time: no window has more than the limit whatever fails, all
of it can be used, and without them the guards go on by shares."""

from __future__ import annotations

import pytest

from sendward.controller.shares import GatewayShares
from sendward.document import Limit
from sendward.protocol import PPM
from tests.fakes.fleet import SECOND, UID, Fleet
from tests.unit.controller.test_shares_in_time import LIMITS, STEPS, Life

LIVES = 12
FAST = Limit(messages=10, period=1, burst=10)


class SharedLife(Life):
    """As a life without them; and the counters fail, for one pod or all, are flushed, answer late, move and
    go; and a guard may be cut off for so long that it refuses everything.
    """

    def __init__(self, limit: Limit, seed: int) -> None:
        super().__init__(limit, seed)
        self.fleet.declare("a")
        self.fleet.stale = self.random.choice((0, 30 * SECOND, 600 * SECOND))
        self.by_counters = self.by_shares = 0

    def step(self) -> None:
        self.random.choice((super().step, super().step, self.harm))()
        self.by_counters += any(pod.term for pod in self.fleet.pods.values())
        self.by_shares += any(pod.held and pod.held.default for pod in self.fleet.pods.values())

    def harm(self) -> None:
        counters = (self.lose, self.find, self.find, self.flush, self.restart, self.split, self.declare)
        self.random.choice(counters)()

    def lose(self) -> None:
        for pod in self.fleet.pods.values():
            pod.counters = pod.counters and self.random.random() < 0.5

    def find(self) -> None:
        for pod in self.fleet.pods.values():
            pod.counters, pod.primary = True, 0

    def flush(self) -> None:
        self.random.choice(self.fleet.counters[self.fleet.place]).flush()

    def restart(self) -> None:
        self.random.choice(self.fleet.counters[self.fleet.place]).restart()

    def split(self) -> None:
        for pod in self.fleet.pods.values():
            pod.primary = self.random.randint(0, 1)

    def flood(self, name: str, count: int) -> None:
        super().flood(name, count)
        for _ in range(self.random.choice((0, 1, count))):
            self.fleet.send_late(name, *(self.random.randint(0, SECOND // 3) for _ in range(2)))

    def declare(self) -> None:
        self.fleet.declare(self.random.choice(("", "a", "a", "b")))


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: f"{limit.messages}-per-{limit.period}s")
def test_no_window_has_more_than_the_limit_whatever_happens(limit: Limit) -> None:
    by_counters = by_shares = 0
    for seed in range(LIVES):
        life = SharedLife(limit, seed)
        for number in range(STEPS):
            life.step()
            if life.fleet.guesses:  # the exception, while none are declared
                break
            assert life.fleet.closest >= 0, (seed, number)
            assert life.fleet.tokens() <= life.fleet.exact.left(life.fleet.now), (seed, number)
        assert life.fleet.guesses or life.fleet.least() >= 0, seed
        by_counters += life.by_counters
        by_shares += life.by_shares
    assert min(by_counters, by_shares) > LIVES


def _fleet(pods: int, limit: Limit = FAST, *, place: str = "a") -> Fleet:
    fleet = Fleet(limit, place=place)
    for number in range(pods):
        fleet.join(f"pod-{number}")
    fleet.run(3 * SECOND)
    return fleet


@pytest.mark.parametrize("pods", [1, 2, 5])
def test_all_of_the_limit_can_be_used_at_any_pod_at_once(pods: int) -> None:
    """Nobody had used anything: the counters begin full, and one pod alone may use them up."""
    fleet = _fleet(pods)
    assert all(pod.term for pod in fleet.pods.values())
    assert sum(fleet.send("pod-0") for _ in range(20)) == 10
    for step in range(600):
        fleet.run(fleet.now + SECOND // 10)
        for _ in range(3):
            fleet.send(f"pod-{step // 7 % pods}")
    assert fleet.utilisation == 1.0
    assert fleet.closest >= 0


def test_without_the_counters_the_guards_go_on_by_shares_and_come_back() -> None:
    fleet = _fleet(3)
    for pod in fleet.pods.values():
        pod.counters = False
    assert not fleet.send("pod-0")
    fleet.run(fleet.now + 3 * SECOND)
    assert not any(pod.term for pod in fleet.pods.values())
    assert fleet.send("pod-0")
    for pod in fleet.pods.values():
        pod.counters = True
    fleet.run(fleet.now + 3 * SECOND)
    assert len({pod.term for pod in fleet.pods.values()}) == 1
    assert all(pod.term.startswith("a.") for pod in fleet.pods.values())
    assert fleet.closest >= 0


def test_one_guard_that_does_not_reach_them_takes_all_to_shares() -> None:
    fleet = _fleet(3)
    fleet.pods["pod-1"].counters = False
    fleet.run(fleet.now + 3 * SECOND)
    assert not any(pod.term for pod in fleet.pods.values())
    fleet.leave("pod-1")
    fleet.run(fleet.now + 3 * SECOND)
    assert all(pod.term for pod in fleet.pods.values())


def test_while_a_guard_that_is_cut_off_may_use_the_counters_nobody_is_given_a_share() -> None:
    fleet = _fleet(3)
    fleet.cut("pod-1")
    for name in ("pod-0", "pod-2"):
        fleet.pods[name].counters = False
    fleet.run(fleet.now + 5 * SECOND)
    assert not fleet.send("pod-0")
    assert fleet.send("pod-1")
    fleet.leave("pod-1", in_order=False)
    fleet.run(fleet.now + 5 * SECOND)
    assert fleet.send("pod-0")


def test_a_new_leader_and_a_killed_guard_keep_the_term() -> None:
    fleet = _fleet(3)
    before = {pod.term for pod in fleet.pods.values()}
    fleet.take_over()
    fleet.run(fleet.now + 3 * SECOND)
    fleet.restart("pod-0")
    fleet.run(fleet.now + 3 * SECOND)
    assert {pod.term for pod in fleet.pods.values()} == before
    assert len(before) == 1


def test_another_place_is_another_term_after_all_left_the_first() -> None:
    fleet = _fleet(2)
    for _ in range(10):
        fleet.send("pod-0")
    fleet.declare("b")
    assert not fleet.send("pod-0")  # its document names another place than its term
    fleet.run(fleet.now + 3 * SECOND)
    assert all(pod.term.startswith("b.") for pod in fleet.pods.values())
    fleet.declare("")
    fleet.run(fleet.now + 3 * SECOND)
    assert not any(pod.term for pod in fleet.pods.values())
    assert fleet.send("pod-0")
    assert fleet.closest >= 0


def test_a_flush_only_takes_away() -> None:
    fleet = _fleet(2)
    assert sum(fleet.send("pod-0") for _ in range(5)) == 5
    fleet.counters["a"][0].flush()
    assert not fleet.send("pod-1")
    fleet.run(fleet.now + SECOND)
    assert sum(fleet.send("pod-1") for _ in range(20)) == 10
    assert fleet.closest >= 0


def test_a_guard_that_claims_a_term_of_its_own_stops_nobody_for_long() -> None:
    """Two terms at once: all leave theirs, and come together in one."""
    fleet = _fleet(3)
    pod = fleet.pods["pod-2"]
    assert pod.held is not None
    pod.held = type(pod.held)(pod.held.round, 0, term="a.mine")
    fleet.restart("pod-2")
    fleet.run(fleet.now + 5 * SECOND)
    assert len({pod.term for pod in fleet.pods.values()}) == 1
    assert fleet.send("pod-0")
    assert fleet.closest >= 0


def test_two_redis_under_one_name_are_not_counted_with() -> None:
    """A split brain, or a Service with two primaries: each would let the whole limit pass."""
    fleet = _fleet(3)
    fleet.pods["pod-1"].primary = 1
    fleet.run(fleet.now + 3 * SECOND)
    assert not any(pod.term for pod in fleet.pods.values())
    assert fleet.send("pod-0")
    fleet.pods["pod-1"].primary = 0
    fleet.run(fleet.now + 3 * SECOND)
    assert len({pod.term for pod in fleet.pods.values()} - {""}) == 1


def test_another_process_is_another_term() -> None:
    fleet = _fleet(2)
    before = fleet.pods["pod-0"].term
    fleet.counters["a"][0].restart()
    assert not fleet.send("pod-0")
    fleet.run(fleet.now + 3 * SECOND)
    after = {pod.term for pod in fleet.pods.values()}
    assert len(after) == 1
    assert before not in after
    assert fleet.send("pod-0")
    assert fleet.closest >= 0


def test_a_guard_that_forgot_its_term_holds_nobody_up() -> None:
    """What it held cannot be kept, and it comes back while the others have left the term."""
    fleet = _fleet(3)
    fleet.cut("pod-1")
    for pod in fleet.pods.values():
        pod.counters = False
    fleet.run(fleet.now + 3 * SECOND)
    forgetful = fleet.pods["pod-1"]
    forgetful.held, forgetful.hub = None, True
    fleet.restart("pod-1")
    fleet.run(fleet.now + 5 * SECOND)
    assert fleet.send("pod-0")
    assert fleet.closest >= 0


def test_a_guard_that_forgot_its_share_holds_nobody_up() -> None:
    fleet = _fleet(3)
    fleet.pods["pod-1"].counters = False
    fleet.run(fleet.now + 3 * SECOND)
    fleet.cut("pod-1")
    forgetful = fleet.pods["pod-1"]
    forgetful.held, forgetful.hub, forgetful.counters = None, True, True
    fleet.restart("pod-1")
    fleet.run(fleet.now + 5 * SECOND)
    assert all(pod.term for pod in fleet.pods.values())
    assert fleet.send("pod-0")
    assert fleet.closest >= 0


def test_a_guard_that_starts_takes_nothing_from_the_others() -> None:
    """It reaches the counters a while after it has found the hub; a rollout is no reason to leave them."""
    fleet = _fleet(2, Limit(messages=1000, period=86400, burst=1000))
    terms = {pod.term for pod in fleet.pods.values()}
    fleet.join("new")
    fleet.run(fleet.now + 3 * SECOND)
    fleet.restart("pod-0")
    fleet.run(fleet.now + 3 * SECOND)
    assert {pod.term for pod in fleet.pods.values()} == terms
    assert sum(fleet.send("new") for _ in range(1000)) == 1000


def test_a_guard_that_reaches_them_late_takes_nothing_from_the_others() -> None:
    """The network of its pod is late; after ten seconds it is a guard that does not reach them."""
    fleet = _fleet(2)
    terms = {pod.term for pod in fleet.pods.values()}
    for name in ("late", "never"):
        fleet.join(name)
        fleet.pods[name].counters = False
        fleet.run(fleet.now + 7 * SECOND)
        assert {fleet.pods[pod].term for pod in ("pod-0", "pod-1")} == terms
        assert not fleet.send(name)
        fleet.pods[name].counters = name == "late"
        fleet.run(fleet.now + 6 * SECOND)
    assert not any(pod.term for pod in fleet.pods.values())
    assert fleet.send("never")
    assert fleet.closest >= 0


def test_once_they_fail_every_guard_with_demand_has_a_share_at_once() -> None:
    """The bursts that the guards told are those of the limits, also while they counted elsewhere."""
    fleet = _fleet(2, Limit(messages=100, period=1, burst=100))
    for step in range(40):
        fleet.run(fleet.now + SECOND // 10)
        for name, pod in fleet.pods.items():
            pod.counters = step < 20
            fleet.send(name)
    shares = [pod.held for pod in fleet.pods.values()]
    assert all(held and held.subjects.get(UID, held.default) >= PPM // 3 for held in shares)
    assert fleet.closest >= 0


def test_the_last_word_of_a_term_is_the_one_that_was_drawn() -> None:
    shares = GatewayShares(iter(("first", "second")).__next__)
    shares.offer_counters("a")
    shares.connect("guard", None)
    shares.reach("guard", "a.here")
    assert shares.due()["guard"].term == "a.here.first"


def test_a_guard_that_never_says_what_it_reaches_holds_nobody_up() -> None:
    fleet = _fleet(2)
    fleet.join("mute")
    for _ in range(5):
        fleet.pods["mute"].began = fleet.now
        fleet.run(fleet.now + SECOND)
    for name in ("pod-0", "pod-1"):
        fleet.pods[name].counters = False
    for _ in range(5):
        fleet.pods["mute"].began = fleet.now
        fleet.run(fleet.now + SECOND)
    assert fleet.send("pod-0")
    assert fleet.closest >= 0


def test_a_claim_of_a_term_while_others_have_shares_brings_nobody_else_to_it() -> None:
    """One comes back with what it had long ago, while another that is cut off limits by its share."""
    fleet = _fleet(3)
    claim = fleet.pods["pod-2"].held
    fleet.pods["pod-2"].counters = False
    fleet.run(fleet.now + 3 * SECOND)
    fleet.cut("pod-1")
    old = fleet.pods["pod-2"]
    old.held, old.counters = claim, True
    fleet.restart("pod-2")
    for _ in range(200):
        fleet.run(fleet.now + SECOND // 10)
        for name in ("pod-0", "pod-1"):
            for _ in range(3):
                fleet.send(name)
    fleet.run(fleet.now + SECOND)
    assert fleet.send("pod-0")
    assert fleet.closest >= 0
