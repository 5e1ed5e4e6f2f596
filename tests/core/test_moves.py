"""Keys and accounts that change places: what they leave behind must be gone before anybody says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sendward import document
from sendward.document import Account, Key, Version
from tests.core.harness import TENANT, World
from tests.core.test_key_life import GATEWAY

POLICY = {"rotation": {"overlap": "24h"}}


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    for name in ("one", "two"):
        made.put("MessagingGateway", name, GATEWAY)
    made.put("APIKeyPolicy", "plain", POLICY)
    made.put("SenderAccount", "zebra", {"gateways": ["one"]})
    made.put("SenderAccount", "ant", {"gateways": ["two"]})
    made.put("APIKey", "k", {"account": "zebra", "policy": "plain"})
    yield made
    made.close()


def current(world: World) -> dict[str, Any]:
    return next(v for v in world.status("APIKey", "k")["versions"] if v["state"] == "Current")


def test_a_key_that_moved_is_revoked_when_its_former_guards_say_so(world: World) -> None:
    """The account that it joins is looked at before the one that it left."""
    first, second = world.add_guard("p1", "one"), world.add_guard("p2", "two")
    world.settle()
    version = current(world)
    world.change("APIKey", "k", account="ant", revokeThrough=version["number"])
    for _ in range(30):
        _ = world.deliver() or world.work_pass() or world.work_job()
        world.take(second)
    assert first.accepts("zebra", version["id"], world.clock.now())
    assert world.condition("APIKey", "k", "Revoked")[0] != "True"
    world.settle()
    assert not first.accepts("zebra", version["id"], world.clock.now())
    assert world.condition("APIKey", "k", "Revoked")[0] == "True"


def test_the_entry_of_an_account_whose_name_was_taken_again_does_not_outlive_a_restart(world: World) -> None:
    """The leader ended after the new entry was stored, and before the old one was taken out."""
    guard = world.add_guard("p1", "one")
    world.settle()
    found = world.documents.get(world.gateway_uid("one"))
    assert found is not None
    for uid in ("0-former", "zz-former"):  # read before and after the account's own
        key = Key(f"key-{uid}", "gone", [Version(f"id-{uid}", 1, "00" * 32)])
        found.set_account(uid, Account(uid, "zebra", keys=[key]))
    world.passes._flush()
    world.settle()
    assert guard.accepts("zebra", "id-zz-former", world.clock.now())
    world.start()
    world.settle()
    left = [account.uid for account in guard.accounts() if account.name == "zebra"]
    assert left == [world.get("SenderAccount", "zebra")["metadata"]["uid"]]
    assert guard.accepts("zebra", current(world)["id"], world.clock.now())


def test_an_older_part_does_not_replace_what_this_process_knows(world: World) -> None:
    """A namespace that is onboarded again, and Secrets that somebody put back."""
    world.add_guard("p1", "one")
    world.settle()
    found = world.documents.get(world.gateway_uid("one"))
    assert found is not None
    old = found.envelopes["0"]
    world.change("SenderAccount", "zebra", suspend=True)
    world.settle()
    new = found.envelopes["0"]
    world.documents.load(found.uid, TENANT, "one", 1, old)
    assert found.envelopes["0"] is new
    assert [a.denied for a in found.accounts[0].values()] == [
        a.denied for a in document.open_shard(new).accounts
    ]


def test_a_version_that_ended_long_ago_does_not_come_back_with_an_old_part(world: World) -> None:
    """Whoever may write Secrets in the namespace puts an old part back while no operator runs."""
    guard = world.add_guard("p1", "one")
    world.settle()
    found = world.documents.get(world.gateway_uid("one"))
    assert found is not None
    entry = next(iter(found.accounts[0].values()))
    key = entry.keys[0]
    # The oldest ended versions are left out of the status.
    gone = Version("long-gone", 1, "11" * 32)
    stale = Account(entry.uid, entry.name, keys=[Key(key.uid, key.name, [gone, *key.versions])])
    found.set_account(entry.uid, stale)
    world.passes._flush()
    world.work_job()
    world.start()
    while world.deliver() or world.work_pass() or world.take(guard):
        pass
    assert guard.version("zebra", "long-gone") is None
