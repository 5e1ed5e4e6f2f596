"""An object says itself whose it is. What one namespace says of another's is not believed."""

from __future__ import annotations

from sendward import names
from sendward.apply import kinds
from sendward.apply.objects import Target
from tests.core.harness import World
from tests.core.test_key_life import GATEWAY

NEIGHBOUR = "neighbour"


def forged(name: str, part: str, owner: str, version: str, **annotations: str) -> dict[str, object]:
    return {
        "metadata": {
            "name": name,
            "namespace": NEIGHBOUR,
            "uid": f"uid-{name}",
            "resourceVersion": version,
            "labels": {
                names.LABEL_MANAGED_BY: "sendward",
                names.LABEL_PART: part,
                names.LABEL_OWNER_UID: owner,
            },
            "annotations": annotations,
        }
    }


def settled(hand_over: str) -> World:
    world = World()
    world.put("MessagingGateway", "sms", GATEWAY)
    world.put("APIKeyPolicy", "plain", {"rotation": {"overlap": "24h"}, "handOver": {"type": hand_over}})
    world.put("SenderAccount", "bank", {"gateways": ["sms"]})
    world.put("APIKey", "k", {"account": "bank", "policy": "plain"})
    world.add_guard("p1", "sms")
    world.settle()
    return world


def test_a_forged_certificate_does_not_hold_back_or_cause_an_issue() -> None:
    world = settled("Vault")
    uid = world.gateway_uid("sms")
    calls = world.vault.calls
    secret = forged("x", "tls", uid, "900", **{"sendward.io/not-after": "9999-01-01T00:00:00+00:00"})
    world.owned.event(kinds.SECRET, secret)
    world.dirty.mark_all()
    world.settle()
    assert world.vault.calls == calls
    world.close()


def test_a_forged_hand_over_causes_no_step() -> None:
    for hand_over, said in (("Secret", ""), ("Vault", "another")):
        world = settled(hand_over)
        uid = world.get("APIKey", "k")["metadata"]["uid"]
        before = (list(world.kube.writes), world.vault.calls)
        secret = forged("k-api-key", "hand-over", uid, "900", **{"sendward.io/key-version": said})
        world.owned.event(kinds.SECRET, secret)
        world.dirty.mark_all()
        world.settle()
        assert (world.kube.writes, world.vault.calls) == before
        world.close()


def test_an_object_of_a_neighbour_is_not_deleted_with_a_gateway() -> None:
    world = settled("Vault")
    world.owned.event(kinds.SECRET, forged("theirs", "tls", world.gateway_uid("sms"), "900"))
    world.erase("MessagingGateway", "sms")
    world.guards.clear()
    world.store.drop_pod("tenant", "p1")
    world.settle(guards=False)
    assert not world.exists("MessagingGateway", "sms")
    assert Target(kinds.SECRET, NEIGHBOUR, "theirs") in world.objects
    world.close()
