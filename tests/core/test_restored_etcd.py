"""etcd restored from a backup: what happened since is told by Vault and by the guards, and stays so."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from sendward.controller.vault_audit import VaultAudit
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


class Backup:
    """etcd as it was, and the term of the leader in it."""

    def __init__(self, world: World) -> None:
        self._objects = copy.deepcopy(world.kube.objects)
        self._version, self._epoch = world.kube.version, world.epoch

    def restore(self, world: World, *, bump: int) -> None:
        """Everything since is forgotten, `bump` revisions are left out; another process leads."""
        world.kube.objects = copy.deepcopy(self._objects)
        world.kube.version = self._version + bump
        world.epoch = self._epoch
        world.start()


def version(world: World, number: int) -> Any:
    """What Vault holds of a key version; None when it is destroyed."""
    [entry] = world.vault.kv.values()
    return entry.versions.get(number)


BUMPS = pytest.mark.parametrize("bump", [0, 1_000_000_000], ids=["same revisions", "revisions bumped"])


def follow(world: World, *, refused: tuple[str, ...] = (), accepted: tuple[str, ...] = ()) -> None:
    """Until nothing moves any more, and after each single step, the guard refuses and accepts these."""
    guard = world.guards[0]

    def judge() -> None:
        now = world.clock.now()
        assert [v for v in refused if guard.accepts("bank", v, now)] == []
        assert [v for v in accepted if not guard.accepts("bank", v, now)] == []

    moved = True
    while moved:
        moved = world.deliver() or world.work_pass() or world.work_job()
        moved = world.take(guard) or moved
        judge()
    world.settle()
    judge()


def states(world: World) -> list[tuple[int, str]]:
    return [(v["number"], v["state"]) for v in world.status("APIKey", "k")["versions"]]


@BUMPS
def test_a_key_that_was_revoked_since_stays_refused(world: World, bump: int) -> None:
    backup, old = Backup(world), version(world, 1)
    world.change("APIKey", "k", revokeThrough=1)
    world.settle()
    new = version(world, 2)
    backup.restore(world, bump=bump)
    follow(world, refused=(old["id"],), accepted=(new["id"],))
    assert states(world) == [(1, "Revoked"), (2, "Current")]
    assert version(world, 1) is None
    assert world.vault.written == 2


@BUMPS
def test_a_version_that_was_issued_since_is_the_one_that_vault_holds(world: World, bump: int) -> None:
    """One rotation, one version: what Vault holds is recorded again, nothing is drawn."""
    backup, old = Backup(world), version(world, 1)
    world.change("APIKey", "k", rotateNonce="1")
    world.settle()
    new = version(world, 2)
    backup.restore(world, bump=bump)
    follow(world, accepted=(old["id"], new["id"]))
    assert states(world) == [(1, "Previous"), (2, "Current")]
    assert world.vault.written == 2


def test_two_rotations_since_are_both_known_again(world: World) -> None:
    backup, first = Backup(world), version(world, 1)
    world.change("APIKey", "k", rotateNonce="1")
    world.settle()
    world.pass_time(timedelta(hours=25))
    world.change("APIKey", "k", rotateNonce="2")
    world.settle()
    second, third = version(world, 2), version(world, 3)
    backup.restore(world, bump=0)
    follow(world, refused=(first["id"],), accepted=(second["id"], third["id"]))
    assert [s for s in states(world) if s[1] in ("Current", "Previous")] == [(2, "Previous"), (3, "Current")]
    assert world.vault.written == 3
    world.pass_time(timedelta(hours=25))
    world.settle()
    [entry] = world.vault.kv.values()
    assert entry.live == [3]


def test_a_key_that_was_deleted_since_comes_back_with_another_version(world: World) -> None:
    """The backup declares it again; the value that its deletion revoked stays refused."""
    backup, old = Backup(world), version(world, 1)
    world.erase("APIKey", "k")
    world.settle()
    assert not world.vault.kv
    backup.restore(world, bump=0)
    follow(world, refused=(old["id"],))
    assert states(world) == [(1, "Revoked"), (2, "Current")]
    assert world.guards[0].accepts("bank", version(world, 1)["id"], world.clock.now())


def test_while_vault_is_away_the_guards_keep_what_they_have(world: World) -> None:
    """Nobody can say then what ended since: the part is overtaken, and corrected when Vault is back."""
    backup, old = Backup(world), version(world, 1)
    world.change("APIKey", "k", revokeThrough=1)
    world.settle()
    new = version(world, 2)
    backup.restore(world, bump=0)
    world.vault.down = True
    for _ in range(50):
        _ = world.deliver() or world.work_pass() or world.work_job()
    world.vault.down = False
    world.pass_time(timedelta(minutes=2))
    world.settle()
    follow(world, refused=(old["id"],), accepted=(new["id"],))


def test_a_guard_that_claims_to_know_more_costs_one_look_at_vault(world: World) -> None:
    """A guard is one tenant's: whatever it says again and again, the keys were verified."""
    backup = Backup(world)
    world.change("APIKey", "k", revokeThrough=1)
    world.settle()
    backup.restore(world, bump=0)
    world.settle()
    calls = world.vault.calls
    found = world.documents.get(world.gateway_uid("sms"))
    assert found is not None
    for number in range(1, 20):
        epoch, revision = found.envelopes["0"].order
        world.overtaking.ahead(found.uid, "0", (epoch, revision + number))
        world.settle()
    assert world.vault.calls == calls


@pytest.mark.parametrize("rotations", [1, 2])
def test_when_no_guard_knows_more_the_comparison_with_vault_finds_it(world: World, rotations: int) -> None:
    """Every pod of the gateway was replaced with the cluster: the records are older than Vault."""
    backup, old = Backup(world), version(world, 1)
    for number in range(1, rotations + 1):
        world.pass_time(timedelta(hours=25))
        world.change("APIKey", "k", rotateNonce=str(number))
        world.settle()
    world.change("APIKey", "k", revokeThrough=1)
    world.settle()
    held = [version(world, number)["id"] for number in range(2, rotations + 2)]
    backup.restore(world, bump=0)
    guard = world.guards[0]
    guard.parts.clear()
    world.settle()
    audit = VaultAudit(world.vault, world.store, world.steps, world.dirty.mark)
    world.loop.run_until_complete(audit.run())
    world.settle()
    follow(world, refused=(old["id"],), accepted=tuple(held))
    assert world.vault.written == rotations + 1
