"""What the hub remembers of one gateway, without sockets."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sendward import document
from sendward.controller.hub_state import GatewayState, highest_epoch
from sendward.document import Envelope, Shard
from sendward.graph.facts import Pod
from sendward.protocol import PPM, Ack, Have, Hello, Nack, Shares

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = Ed25519PrivateKey.generate()
ONE = Pod("one", "tenant", "gw-1", "gw", ready=True, terminating=False, injected=True)
TWO = replace(ONE, uid="two", name="gw-2")


def envelope(revision: int, part: str = "0") -> Envelope:
    payload = document.compress(Shard([document.Account("u", str(revision))]))
    return document.seal(KEY, "gateway-uid", part, 1, revision, payload)


def state(*pods: Pod) -> GatewayState:
    made = GatewayState()
    made.publish({"0": envelope(1)}, pods)
    return made


def share(made: GatewayState, uid: str) -> int:
    """What a guard is given when it acknowledges everything."""
    made.shares.retarget()
    given = 0
    while messages := made.shares.due():
        for guard, message in messages.items():
            made.shares.acknowledge(guard, message.round)
            given = message.default if guard == uid else given
    return given


def test_publishing_the_same_again_changes_nothing() -> None:
    made = state()
    assert not made.publish({"0": envelope(1)}, [])
    assert made.publish({"0": envelope(2)}, [])


def test_acknowledgements_of_parts_that_do_not_exist_are_ignored() -> None:
    made = state()
    made.hello(ONE, Hello([1], 0, {}), NOW)
    made.acknowledge("one", Ack("99", 1, 1))
    made.refuse("one", Nack("99", 1, 1, "no"))
    assert made.facts()["one"].parts == {}


def test_an_acknowledgement_ends_an_earlier_refusal() -> None:
    made = state()
    made.hello(ONE, Hello([1], 0, {}), NOW)
    made.refuse("one", Nack("0", 1, 1, ""))
    assert made.facts()["one"].parts["0"].rejected == "no reason given"
    made.acknowledge("one", Ack("0", 1, 1))
    assert made.facts()["one"].parts["0"].rejected == ""


def test_digests_of_long_ago_are_forgotten() -> None:
    made = state()
    for revision in range(2, 100):
        made.publish({"0": envelope(revision)}, [])
    assert len(made.published["0"].history) == 32


def test_out_of_sync_counts_ready_pods_without_the_current_parts() -> None:
    made = state(ONE, TWO)
    sealed = envelope(1)
    made.hello(ONE, Hello([1], 0, {"0": Have(1, 1, sealed.digest)}), NOW)
    unready = replace(TWO, uid="three", ready=False)
    assert made.out_of_sync([ONE, TWO, unready]) == 1
    made.publish({"1": envelope(2, "1")}, [])
    assert made.out_of_sync([ONE, TWO, unready]) == 2


def test_a_guard_of_a_pod_that_is_gone_is_forgotten() -> None:
    made = state(ONE)
    made.hello(ONE, Hello([1], 0, {}), NOW)
    made.disconnect("one", NOW)
    assert not made.sweep({"one"}, None, NOW, NOW)
    assert made.sweep(set(), None, NOW, NOW)
    assert (made.facts(), made.shares.guards) == ({}, frozenset())


@pytest.mark.parametrize(("seconds", "given"), [(100, 0), (161, PPM)])
def test_the_share_of_a_stale_guard_goes_to_the_others(seconds: int, given: int) -> None:
    made = state(ONE, TWO)
    for pod in (ONE, TWO):
        made.hello(pod, Hello([1], 0, {}, Shares(1, PPM // 2)), NOW)
    made.disconnect("two", NOW)
    later = NOW + timedelta(seconds=seconds)
    made.sweep({"one", "two"}, 100, NOW, later)
    assert share(made, "one") == given


def test_a_guard_that_was_never_met_is_stale_some_day_too() -> None:
    made = state(ONE, TWO)
    made.hello(ONE, Hello([1], 0, {}, Shares(1, PPM // 2)), NOW)
    assert share(made, "one") == 0  # it keeps what it has
    made.sweep({"one", "two"}, 100, NOW, NOW + timedelta(seconds=200))
    assert share(made, "one") == PPM


def test_an_unready_pod_may_hold_shares_of_an_earlier_leader_until_it_had_time_to_tell() -> None:
    """It may have been Ready before; only its guard knows."""
    made = state(ONE, replace(TWO, ready=False))
    made.hello(ONE, Hello([1], 0, {}, Shares(1, PPM // 2)), NOW)
    assert share(made, "one") == 0  # it keeps what it has
    made.sweep({"one", "two"}, None, NOW, NOW + timedelta(seconds=14))
    assert share(made, "one") == 0
    made.sweep({"one", "two"}, None, NOW, NOW + timedelta(seconds=15))
    assert share(made, "one") == PPM


def test_a_ready_pod_is_waited_for_as_long_as_it_is_there() -> None:
    made = state(ONE, TWO)
    made.hello(ONE, Hello([1], 0, {}, Shares(1, PPM // 2)), NOW)
    made.sweep({"one", "two"}, None, NOW, NOW + timedelta(hours=1))
    assert share(made, "one") == 0


def test_an_answer_to_what_was_never_sent_says_nothing() -> None:
    """Else the part would be sealed anew above it, again and again: one pod's work for all tenants."""
    made = state()
    made.hello(ONE, Hello([1], 0, {}), NOW)
    made.acknowledge("one", Ack("0", 2**40, 1))
    assert (made.facts()["one"].parts, made.ahead("one")) == ({}, {})


@pytest.mark.parametrize(
    ("hello", "seen"),
    [
        (Hello([1], 7, {}), 7),
        (Hello([1], 7, {"0": Have(9, 1, "")}), 9),
        (Hello([1], 2**31 - 1, {}), None),  # the Lease of all tenants would take no more renewal
        (Hello([1], -1, {}), None),
        (Hello([1], 1, {"0": Have(2**31, 1, "")}), None),
        (Hello([1], 1, {"0": Have(1, 2**64, "")}), None),
        (Hello([1], 1, {"0": Have(1, -1, "")}), None),
    ],
)
def test_what_a_guard_may_claim(hello: Hello, seen: int | None) -> None:
    assert highest_epoch(hello) == seen


def test_only_the_first_shares_of_a_new_gateway_come_with_tokens() -> None:
    """What an earlier leader sealed, or pods that were there before, may have used some already."""
    cases: tuple[tuple[int, list[Pod], int], ...] = ((1, [], PPM), (2, [], 0), (1, [ONE], 0))
    for epoch, pods, tokens in cases:
        made = GatewayState()
        made.publish({"0": envelope(1)}, pods, epoch)
        made.hello(ONE, Hello([1], 0, {}), NOW)
        made.shares.retarget()
        assert made.shares.due()[ONE.uid].filled.default == tokens


def test_a_pod_of_an_earlier_gateway_is_not_waited_for_and_was_there_before() -> None:
    made = GatewayState()
    made.publish({"0": envelope(1)}, [ONE, TWO], 1, replaced={"two"})
    made.hello(ONE, Hello([1], 0, {}), NOW)
    made.hello(TWO, Hello([1], 0, {"0": Have(9, 9, "")}, Shares(1, PPM)), NOW, replaced=True)
    assert made.ahead("two") == {}
    made.shares.retarget()
    (given,) = made.shares.due().values()
    assert (given.default, given.filled.default) == (PPM, 0)
    made.disconnect("two", NOW)
    assert made.sweep({"one"}, None, NOW, NOW)
