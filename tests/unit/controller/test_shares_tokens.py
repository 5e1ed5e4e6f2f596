"""Tokens move with the shares, are given once, and never outnumber what nobody holds."""

from __future__ import annotations

from sendward.controller.share_tables import Table
from sendward.protocol import PPM, Portions, Shares
from tests.fakes.cluster import Cluster, Guard

SUBJECTS = ("a", "b", "c")


def test_the_first_shares_of_a_new_gateway_come_filled_and_later_ones_with_what_was_freed() -> None:
    cluster = Cluster()
    cluster.hub.begin()
    one = cluster.join("one")
    cluster.tick()
    assert one.inbox[0].filled == Portions(PPM)
    one.read()
    cluster.hub.acknowledge("one", one.answers.pop())
    two = cluster.join("two")
    cluster.tick()
    one.read()
    cluster.hub.acknowledge("one", one.answers.pop(), Portions(300_000, {"a": 70_000}))
    cluster.send()
    assert two.inbox[0].filled == Portions(300_000, {"a": 70_000})


def test_without_knowing_what_was_used_shares_come_empty() -> None:
    """An operator that takes over, a pod that died: nobody can tell what is left."""
    cluster = Cluster()
    cluster.join("one")
    cluster.tick()
    assert cluster.guards["one"].inbox[0].filled == Portions()
    cluster.settle()
    del cluster.guards["one"]
    cluster.hub.remove("one")
    two = cluster.join("two")
    cluster.tick()
    assert two.inbox[0].filled == Portions()


def test_tokens_are_believed_up_to_the_share_that_was_given_up() -> None:
    """A pod that died left its share without tokens; no other guard can claim that they are there."""
    cluster = Cluster()
    one = cluster.join("one")
    cluster.join("two")
    cluster.settle()
    cluster.join("three")
    cluster.tick()
    del cluster.guards["two"]
    cluster.hub.remove("two")
    cluster.send()
    one.read()
    cluster.hub.acknowledge("one", one.answers.pop(), Portions(PPM, dict.fromkeys(SUBJECTS, PPM)))
    four = cluster.join("four")
    cluster.tick()
    (message,) = four.inbox
    assert (message.default, message.filled) == (PPM // 3, Portions(PPM // 2 - PPM // 3))


def test_tokens_are_given_once() -> None:
    """Two pods share what one gave up and what a dead one left empty."""
    cluster = Cluster()
    one = cluster.join("one")
    cluster.join("two")
    cluster.settle()
    cluster.cut("one")
    cluster.join("three")
    cluster.cut("three")
    del cluster.guards["two"]
    cluster.hub.remove("two")
    cluster.connect("one")
    cluster.connect("three")
    cluster.join("four")
    one.inbox.clear()
    cluster.hub._pool = Table(100_000)
    cluster.tick()
    three, four = cluster.guards["three"], cluster.guards["four"]
    assert four.inbox[0].filled.default + three.inbox[0].filled.default == 100_000


def test_tokens_never_outnumber_what_nobody_holds() -> None:
    """A guard tells late that it has a share of a gateway that seemed new."""
    cluster = Cluster()
    cluster.hub.begin()
    one = cluster.guards["one"] = Guard(Shares(1, PPM // 2), connected=True)
    cluster.hub.connect("one", one.current)
    two = cluster.join("two")
    cluster.tick()
    assert two.inbox[0].filled == Portions(PPM // 2)
    del cluster.guards["one"]
    cluster.hub.remove("one")
    three = cluster.join("three")
    cluster.tick()
    assert three.inbox[0].filled == Portions()


def test_a_gateway_whose_guards_hold_shares_is_not_new() -> None:
    cluster = Cluster()
    cluster.join("one")
    cluster.settle()
    cluster.hub.begin()
    cluster.guards["one"].connected = False
    del cluster.guards["one"]
    cluster.hub.remove("one")
    two = cluster.join("two")
    cluster.tick()
    assert two.inbox[0].filled == Portions()
