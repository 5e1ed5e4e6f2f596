"""The sum of the shares never exceeds a limit, and shares follow demand."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sendward.controller.shares import GatewayShares, split
from sendward.protocol import PPM
from tests.fakes.cluster import Cluster

SUBJECTS = ("a", "b", "c")


class Schedule(RuleBasedStateMachine):
    """Joins, leaves, cuts, takeovers, messages that are read late or never, in any order."""

    @initialize()
    def start(self) -> None:
        self.cluster = Cluster()
        self.count = 0

    def _pick(self, data: st.DataObject, *, connected: bool) -> str | None:
        found = sorted(n for n, g in self.cluster.guards.items() if g.connected is connected)
        return data.draw(st.sampled_from(found)) if found else None

    @precondition(lambda self: len(self.cluster.guards) < 5)
    @rule()
    def join(self) -> None:
        self.count += 1
        self.cluster.join(f"pod-{self.count}")

    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        if name := self._pick(data, connected=True):
            self.cluster.cut(name)

    @rule(data=st.data())
    def late_read(self, data: st.DataObject) -> None:
        """What was on the way when the connection broke may still be read."""
        name = self._pick(data, connected=False)
        if name and self.cluster.guards[name].inbox:
            self.cluster.guards[name].read()

    @rule(data=st.data(), restarted=st.booleans())
    def reconnect(self, data: st.DataObject, restarted: bool) -> None:
        if name := self._pick(data, connected=False):
            if restarted:  # it forgot its shares and takes its own guess, which is not counted
                self.cluster.guards[name].current = None
            self.cluster.connect(name)

    @rule(data=st.data(), connected=st.booleans())
    def leave(self, data: st.DataObject, connected: bool) -> None:
        if name := self._pick(data, connected=connected):
            del self.cluster.guards[name]
            self.cluster.hub.remove(name)

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        name = self._pick(data, connected=True)
        if name and self.cluster.guards[name].inbox:
            self.cluster.guards[name].read()

    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        name = self._pick(data, connected=True)
        if name and self.cluster.guards[name].answers:
            self.cluster.hub.acknowledge(name, self.cluster.guards[name].answers.pop(0))

    @rule(
        data=st.data(),
        demand=st.dictionaries(st.sampled_from(SUBJECTS), st.integers(0, 1000)),
        burst=st.sampled_from((1, 3, 7, 1000)),
    )
    def report(self, data: st.DataObject, demand: dict[str, int], burst: int) -> None:
        if name := self._pick(data, connected=True):
            self.cluster.hub.report(name, demand, self.cluster.now, dict.fromkeys(demand, burst))

    @rule()
    def tick(self) -> None:
        self.cluster.tick()

    @rule()
    def send(self) -> None:
        self.cluster.send()

    @rule()
    def quiet_time(self) -> None:
        self.cluster.settle(seconds=2)

    @rule()
    def take_over(self) -> None:
        """Another process leads; it knows the pods and nothing else."""
        for name in self.cluster.guards:
            self.cluster.cut(name)
        self.cluster.hub = GatewayShares(lambda: "word")
        self.cluster.hub.expect(self.cluster.guards)

    @invariant()
    def never_more_than_the_limit(self) -> None:
        for subject in (*SUBJECTS, "any other"):
            assert self.cluster.total(subject) <= PPM


Schedule.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestSchedule = Schedule.TestCase


def test_one_guard_has_everything() -> None:
    cluster = Cluster()
    guard = cluster.join("one")
    cluster.settle()
    assert guard.share("a") == PPM


def test_without_demand_shares_are_equal() -> None:
    cluster = Cluster()
    guards = [cluster.join(name) for name in ("one", "two", "three", "four")]
    cluster.settle()
    assert [guard.share("a") for guard in guards] == [PPM // 4] * 4


def test_a_new_guard_waits_for_the_others_to_acknowledge_their_decrease() -> None:
    cluster = Cluster()
    one = cluster.join("one")
    cluster.settle()
    two = cluster.join("two")
    cluster.tick()
    assert not two.inbox
    one.read()
    assert cluster.send() == 0
    cluster.hub.acknowledge("one", one.answers.pop(0))
    cluster.send()
    assert [message.default for message in two.inbox] == [PPM // 2]


def test_shares_follow_demand_within_a_tick() -> None:
    cluster = Cluster()
    one, two = cluster.join("one"), cluster.join("two")
    cluster.settle()
    cluster.settle({"one": {"a": 300}, "two": {"a": 100, "b": 7}}, seconds=1)
    assert one.share("a") > 2 * two.share("a") > 0
    assert two.share("b") >= 0.9 * PPM
    assert one.share("c") == two.share("c") == PPM // 2


def test_a_subject_without_demand_returns_to_the_default() -> None:
    cluster = Cluster()
    one, two = cluster.join("one"), cluster.join("two")
    cluster.settle({"one": {"a": 300}, "two": {}})
    assert one.share("a") >= 0.9 * PPM
    cluster.settle({"one": {}, "two": {}})
    assert one.share("a") == two.share("a") == PPM // 2


def test_jitter_of_demand_sends_nothing() -> None:
    cluster = Cluster()
    cluster.join("one"), cluster.join("two")
    cluster.settle({"one": {"a": 100}, "two": {"a": 100}})
    cluster.hub.report("one", {"a": 104}, cluster.now)
    cluster.hub.report("two", {"a": 97}, cluster.now)
    cluster.hub.retarget()
    assert cluster.send() == 0


def test_the_share_of_a_cut_off_guard_stays_reserved_until_its_pod_is_gone() -> None:
    cluster = Cluster()
    one, _ = cluster.join("one"), cluster.join("two")
    cluster.settle()
    cluster.cut("two")
    cluster.settle()
    assert one.share("a") == PPM // 2
    del cluster.guards["two"]
    cluster.hub.remove("two")
    cluster.settle()
    assert one.share("a") == PPM


def test_the_share_of_a_stale_guard_is_free() -> None:
    cluster = Cluster()
    one, _ = cluster.join("one"), cluster.join("two")
    cluster.settle()
    cluster.cut("two")
    cluster.hub.expire("two")
    cluster.settle()
    assert one.share("a") == PPM


def test_a_connected_guard_does_not_expire() -> None:
    cluster = Cluster()
    one, two = cluster.join("one"), cluster.join("two")
    cluster.settle()
    cluster.hub.expire("two")
    cluster.settle()
    assert one.share("a") == two.share("a") == PPM // 2


def test_a_new_leader_gives_away_only_what_it_has_found() -> None:
    cluster = Cluster()
    one, _ = cluster.join("one"), cluster.join("two")
    cluster.settle({"one": {"a": 300}, "two": {"b": 300}})
    for name in ("one", "two"):
        cluster.cut(name)
    cluster.hub = GatewayShares(lambda: "word")
    cluster.connect("one")
    cluster.hub.expect(("one", "two"))
    held = one.share("a")
    cluster.settle({"one": {"a": 300, "b": 300}})
    assert one.share("a") == held
    cluster.connect("two")
    cluster.settle({"one": {"a": 300, "b": 300}, "two": {}})
    assert one.share("b") >= 0.9 * PPM


def test_an_answer_to_an_older_round_counts_for_nothing() -> None:
    cluster = Cluster()
    one = cluster.join("one")
    cluster.settle()
    cluster.join("two")
    cluster.tick()
    cluster.hub.acknowledge("one", one.inbox[0].round - 1)
    cluster.send()
    assert not cluster.guards["two"].inbox


def test_many_subjects_keep_the_busiest() -> None:
    cluster = Cluster()
    one, _ = cluster.join("one"), cluster.join("two")
    busy = {f"subject-{n}": 1 for n in range(1500)}
    cluster.settle({"one": {**busy, "a": 500}, "two": {f"other-{n}": 1 for n in range(1500)}}, seconds=2)
    assert one.share("a") >= 0.9 * PPM
    assert one.current is not None
    assert len(one.current.subjects) <= 2048


def test_a_guard_without_demand_keeps_one_message_and_no_more() -> None:
    assert split(PPM, {"one": 10, "two": 0, "three": 0}, 100) == {
        "one": PPM * 98 // 100,
        "two": PPM // 100,
        "three": PPM // 100,
    }


def test_a_share_that_lets_nothing_pass_is_given_to_nobody() -> None:
    """With a burst of 3, five pods at a fifth each would refuse everything."""
    demand = {"a": 1.0, "b": 9.0, "c": 5.0, "d": 1.0, "e": 0.0}
    shares = split(PPM, demand, 3)
    assert {uid for uid, share in shares.items() if share * 3 >= PPM} == {"b", "c"}
    assert sum(shares.values()) <= PPM
    assert sorted(shares.values())[:3] == [0, 0, 0]
    one = split(PPM, demand, 1)
    assert one == {"a": 0, "b": PPM, "c": 0, "d": 0, "e": 0}


def test_who_has_the_only_message_keeps_it_until_another_clearly_needs_it_more() -> None:
    before = {"a": PPM, "b": 0}
    assert split(PPM, {"a": 5.0, "b": 6.0}, 1, before) == before
    assert split(PPM, {"a": 5.0, "b": 20.0}, 1, before) == {"a": 0, "b": PPM}


@given(
    st.integers(0, PPM),
    st.dictionaries(st.sampled_from("abcdefg"), st.floats(0, 1e12), min_size=1),
    st.integers(1, 10_000_000),
    st.dictionaries(st.sampled_from("abcdefg"), st.integers(0, PPM)),
)
def test_a_split_never_gives_more_than_there_is(
    capacity: int, demand: dict[str, float], burst: int, before: dict[str, int]
) -> None:
    shares = split(capacity, demand, burst, before)
    assert shares.keys() == demand.keys()
    assert sum(shares.values()) <= capacity
    assert min(shares.values()) >= 0


def test_a_new_demand_moves_shares_before_the_next_second() -> None:
    cluster = Cluster()
    one, two = cluster.join("one"), cluster.join("two")
    cluster.settle({"one": {"a": 300}, "two": {}})
    assert two.share("a") < PPM // 50
    assert cluster.hub.report("two", {"a": 300}, cluster.now, {"a": 100})
    assert cluster.send()
    one.read()
    assert one.share("a") == PPM // 2
    assert not cluster.hub.report("two", {"a": 310}, cluster.now, {"a": 100})
