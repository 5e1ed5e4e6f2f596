"""etcd restored from a backup: what happened since is told by Vault and by the guards, and stays so."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

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


@BUMPS
def test_a_key_that_was_revoked_since_stays_refused(world: World, bump: int) -> None:
    backup, old = Backup(world), version(world, 1)
    world.change("APIKey", "k", revokeThrough=1)
    world.settle()
    new = version(world, 2)
    guard = world.guards[0]
    assert guard.accepts("bank", new["id"], world.clock.now())
    backup.restore(world, bump=bump)
    for _ in range(200):
        moved = world.deliver() or world.work_pass() or world.work_job()
        moved = world.take(guard) or moved
        assert not guard.accepts("bank", old["id"], world.clock.now())
        assert guard.accepts("bank", new["id"], world.clock.now())
        if not moved:
            break
    world.settle()
    assert not guard.accepts("bank", old["id"], world.clock.now())
    assert guard.accepts("bank", new["id"], world.clock.now())
    assert version(world, 1) is None
