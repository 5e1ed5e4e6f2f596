"""Cases that simulations found once: kept, so that they are tried every time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sendward.document import Account
from tests.core.harness import World
from tests.core.test_key_life import GATEWAY, POLICIES


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.put("MessagingGateway", "sms", GATEWAY)
    world.put("APIKeyPolicy", "plain", POLICIES["plain"])
    world.put("SenderAccount", "bank", {"gateways": ["sms"]})
    world.put("APIKey", "k", {"account": "bank", "policy": "plain"})
    world.add_guard("p1", "sms")
    world.settle()
    yield world
    world.close()


def _versions(world: World) -> list[tuple[int, str]]:
    return [(v["number"], v["state"]) for v in world.status("APIKey", "k")["versions"]]


def _until_written(world: World) -> None:
    """Up to the moment when a new version lies in Vault and is not recorded."""
    written = world.vault.written
    for _ in range(100):
        world.deliver()
        world.work_pass()
        world.take(world.guards[0])
        world.work_job()
        if world.vault.written > written:
            return
    raise AssertionError("no version was written")


def test_a_version_is_recorded_once_though_the_answer_was_lost(world: World) -> None:
    world.change("APIKey", "k", rotateNonce="1")
    _until_written(world)
    world.kube.fault = "lose"
    world.settle()
    assert _versions(world) == [(1, "Previous"), (2, "Current")]


@pytest.mark.parametrize("policy", ["plain", "gone"])
def test_a_version_that_reached_vault_is_accepted_after_a_crash(world: World, policy: str) -> None:
    world.change("APIKey", "k", rotateNonce="1")
    _until_written(world)
    [entry] = world.vault.kv.values()
    newest = entry.versions[2]
    assert newest is not None
    world.change("APIKey", "k", rotateNonce="", policy=policy)  # the reason of the rotation is gone
    world.vault.down = True
    world.start()
    world.settle()
    assert world.guards[0].accepts("bank", newest["id"], world.clock.now())
    world.vault.down = False
    world.settle()
    assert world.guards[0].accepts("bank", newest["id"], world.clock.now())


def test_a_version_that_is_in_vault_unrecorded_can_be_revoked(world: World) -> None:
    world.change("APIKey", "k", rotateNonce="1")
    _until_written(world)
    world.change("APIKey", "k", revokeThrough=2)
    world.settle()
    assert _versions(world) == [(1, "Revoked"), (2, "Revoked"), (3, "Current")]
    [entry] = world.vault.kv.values()
    assert entry.live == [3]


def test_a_restart_finds_nothing_to_write_whatever_the_order_of_conditions(world: World) -> None:
    """`Revoked` stood there before `Stalled` came; who starts anew would list them the other way."""
    world.change("APIKey", "k", revokeThrough=1)
    world.settle()
    world.change("APIKey", "k", policy="missing")
    world.settle()
    types = {condition["type"] for condition in world.status("APIKey", "k")["conditions"]}
    assert types >= {"Revoked", "Stalled"}
    written = len(world.kube.writes)
    world.start()
    world.settle()
    assert world.kube.writes[written:] == []


def test_a_document_that_cannot_be_written_is_the_fault_of_its_own_part(world: World) -> None:
    """Whatever got past the models: all other parts go out, of its gateway too, and the operator goes on."""
    world.put("MessagingGateway", "other", GATEWAY)
    world.add_guard("p2", "other")
    world.settle()
    broken = world.documents.get(world.gateway_uid("sms"))
    assert broken is not None
    broken.set_account("u", Account("u", "\ud800"))
    world.put("SenderAccount", "bank", {"gateways": ["sms", "other"]})
    world.put("APIKey", "k2", {"account": "bank", "policy": "plain"})
    for _ in range(50):
        _ = world.deliver(), world.work_pass(), world.work_job(), world.take(world.guards[1])
    assert {key.name for account in world.guards[1].accounts() for key in account.keys} == {"k", "k2"}
    broken.set_account("u", None)
    world.settle()
    assert {key.name for account in world.guards[0].accounts() for key in account.keys} == {"k", "k2"}
