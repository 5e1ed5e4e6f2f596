"""What the watches tell is late, doubled, out of order or missing: the end state is that of an undisturbed
run, and one rotation issues one version."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sendward.apply import kinds
from sendward.apply.objects import Target
from sendward.apply.ports import Kind, Object, Page
from sendward.controller.listing import list_all
from tests.core.harness import TENANT, World
from tests.core.test_key_life import GATEWAY, POLICIES

News = list[tuple[str, Kind, Object]]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.put("MessagingGateway", "sms", GATEWAY)
    for name in ("plain", "handed"):
        world.put("APIKeyPolicy", name, POLICIES[name])
    world.put("SenderAccount", "bank", {"gateways": ["sms"]})
    world.put("APIKey", "k", {"account": "bank", "policy": "handed"})
    world.add_guard("p1", "sms")
    world.settle()
    yield world
    world.close()


def resync(world: World) -> None:
    """What happens every ten minutes: everything is listed, and what was not shown is gone."""
    restored: list[str] = []
    for kind in kinds.OURS:
        world.loop.run_until_complete(list_all(world.kube, kind, world.resources, restored.append))
    assert not restored
    for kind in (kinds.SECRET, kinds.NETWORK_POLICY):
        present = set()
        for obj in world.kube.of(kind):
            present.add(Target(kind, TENANT, obj["metadata"]["name"]))
            world.owned.event(kind, obj)
        world.objects.ghosts(kind, TENANT, present)


def versions(world: World, key: str = "k") -> list[tuple[int, str]]:
    return [(v["number"], v["state"]) for v in world.status("APIKey", key)["versions"]]


def change_everything(world: World) -> None:
    """A rotation, a new account with a key, a deleted key, and an object of ours that somebody deletes."""
    world.change("APIKey", "k", rotateNonce="1")
    world.put("SenderAccount", "shop", {"gateways": ["sms"]})
    world.put("APIKey", "new", {"account": "shop", "policy": "plain"})
    world.erase("APIKey", "old")
    world.kube.erase(kinds.SECRET, TENANT, "k-api-key")


def check(world: World) -> None:
    """The end state of `change_everything`, undisturbed."""
    guard = world.guards[0]
    assert versions(world) == [(1, "Previous"), (2, "Current")]
    assert versions(world, "new") == [(1, "Current")]
    assert not world.exists("APIKey", "old")
    assert len(world.vault.kv) == 2
    assert sorted(n for entry in world.vault.kv.values() for n in entry.live) == [1, 1, 2]
    assert world.vault.written == 4  # k twice, old, new
    assert ("secrets", TENANT, "k-api-key") in world.kube.objects
    held = {a.name: {k.name for k in a.keys} for a in guard.accounts()}
    assert held == {"bank": {"k"}, "shop": {"new"}}


def drop(news: News, chance: random.Random) -> News:
    return [one for one in news if chance.random() < 0.5]


def double(news: News, chance: random.Random) -> News:
    return [one for one in news for _ in range(chance.choice([1, 2, 3]))]


def shuffle(news: News, chance: random.Random) -> News:
    return chance.sample(news, len(news))


TAMPERS: dict[str, Callable[[News, random.Random], News]] = {
    "dropped": drop,
    "doubled": double,
    "out of order": shuffle,
    "all of it": lambda news, chance: shuffle(double(drop(news, chance), chance), chance),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("how", TAMPERS)
def test_events_that_are_dropped_doubled_or_out_of_order_change_nothing_in_the_end(
    world: World, how: str, seed: int
) -> None:
    world.put("APIKey", "old", {"account": "bank", "policy": "plain"})
    world.settle()
    chance = random.Random(seed)
    change_everything(world)
    for _ in range(30):
        world.kube.news = TAMPERS[how](world.kube.news, chance)
        world.deliver()
        for _ in range(chance.randint(0, 4)):
            _ = world.work_job() or world.work_pass()
        world.take(world.guards[0])
        world.pass_time(timedelta(milliseconds=chance.choice([1, 100, 2000])))
    world.kube.news.clear()
    resync(world)
    world.settle()
    check(world)


def test_a_late_watch_does_not_rotate_twice(world: World) -> None:
    """For 30 s nothing is told, not even our own writes, while each call passes."""
    world.change("APIKey", "k", rotateNonce="1")
    world.deliver()
    for _ in range(300):
        _ = world.work_job() or world.work_pass()
        world.take(world.guards[0])
        world.pass_time(timedelta(milliseconds=100))
    assert versions(world) == [(1, "Previous"), (2, "Current")]
    assert world.vault.written == 2
    assert len(world.kube.news) > 1
    world.settle()
    assert versions(world) == [(1, "Previous"), (2, "Current")]
    assert world.vault.written == 2


def test_a_late_watch_does_not_undo_what_the_user_changed_meanwhile(world: World) -> None:
    """The spec that the operator works on is old: its writes meet conflicts, a few a second at most."""
    old = world.status("APIKey", "k")["versions"][0]["id"]
    world.change("APIKey", "k", rotateNonce="1")
    world.deliver()
    world.change("APIKey", "k", revokeThrough=1)
    written = len(world.kube.writes)
    for _ in range(300):
        _ = world.work_job() or world.work_pass()
        world.take(world.guards[0])
        world.pass_time(timedelta(milliseconds=100))
    assert len(world.kube.writes) - written < 30 * 10
    world.settle()
    assert versions(world) == [(1, "Revoked"), (2, "Current")]
    assert world.vault.written == 2
    assert not world.guards[0].accepts("bank", old, world.clock.now())


@pytest.mark.parametrize("seen", ["all at once", "one by one", "the last only"])
def test_a_name_that_is_taken_again_at_once_is_another_object(world: World, seen: str) -> None:
    """Create, delete, create within an instant: nothing of the first is left, nothing is issued twice."""

    def step() -> None:
        if seen == "one by one":
            world.deliver()
            world.work_pass()

    for number in range(2):
        world.put("SenderAccount", "shop", {"gateways": ["sms"]})
        step()
        world.put("APIKey", "new", {"account": "shop", "policy": "plain"})
        step()
        if not number:
            world.erase("APIKey", "new")
            world.erase("SenderAccount", "shop")
            step()
            if world.exists("APIKey", "new"):  # its finalizer holds it until it is refused
                world.settle()
    if seen == "the last only":
        world.kube.news = world.kube.news[-2:]
    world.settle()
    uid = world.get("SenderAccount", "shop")["metadata"]["uid"]
    [account] = [a for a in world.guards[0].accounts() if a.name == "shop"]
    assert account.uid == uid
    assert versions(world, "new") == [(1, "Current")]
    live = [path for path, entry in world.vault.kv.items() if entry.live]
    assert len(live) == 2
    assert any(path.endswith(world.get("APIKey", "new")["metadata"]["uid"]) for path in live)


def test_an_answer_that_comes_after_the_deletion_brings_nothing_back(world: World) -> None:
    """The API server carried out our status write, then a deletion; the watch is faster than the answer."""
    apply = world.kube.apply

    async def late(kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        answer = await apply(kind, obj, subresource=subresource)
        if kind == kinds.SENDER_ACCOUNT and world.exists("SenderAccount", "bank"):
            world.erase("SenderAccount", "bank")
            world.deliver()
        return answer

    world.kube.apply = late  # type: ignore[method-assign]
    world.change("SenderAccount", "bank", displayName="another")
    world.settle()
    assert not world.exists("SenderAccount", "bank")
    assert [a.name for a in world.guards[0].accounts()] == []
    assert world.condition("APIKey", "k", "ResolvedRefs")[0] == "False"


def while_listing(world: World, kind: Kind, happens: Callable[[], None]) -> None:
    """List everything; after the page of one kind was read, something happens that the watch tells first."""
    page = world.kube.page

    async def slow(which: Kind, **options: Any) -> Page:
        found = await page(which, **options)
        if which == kind:
            happens()
            world.deliver()
        return found

    world.kube.page = slow  # type: ignore[assignment, method-assign]
    resync(world)
    world.kube.page = page  # type: ignore[method-assign]
    world.settle()


def test_what_was_created_during_a_listing_is_not_forgotten(world: World) -> None:
    world.change("SenderAccount", "bank", policies={"rateLimit": "tight"})
    world.settle()
    assert world.condition("SenderAccount", "bank", "ResolvedRefs")[0] == "False"
    limit = {"account": [{"messages": 1, "per": "1s"}]}
    while_listing(world, kinds.RATE_LIMIT_POLICY, lambda: world.put("RateLimitPolicy", "tight", limit))
    assert world.condition("SenderAccount", "bank", "ResolvedRefs")[0] == "True"


def test_what_was_deleted_during_a_listing_does_not_come_back(world: World) -> None:
    while_listing(world, kinds.API_KEY_POLICY, lambda: world.erase("APIKeyPolicy", "handed"))
    world.change("APIKey", "k", rotateNonce="1")
    world.settle()
    assert world.condition("APIKey", "k", "ResolvedRefs")[0] == "False"
    assert world.vault.written == 1


def test_a_listing_that_is_older_than_what_is_known_tells_of_a_restore(world: World) -> None:
    """An object that went back to what a backup holds; the Store would keep the newer one for ever."""
    page, restored = world.kube.page, list[str]()

    async def backup(which: Kind, **options: Any) -> Page:
        found = await page(which, **options)
        items = [obj | {"metadata": obj["metadata"] | {"resourceVersion": "1"}} for obj in found.items]
        return replace(found, items=items)

    world.kube.page = backup  # type: ignore[assignment, method-assign]
    kind = kinds.MESSAGING_GATEWAY
    world.loop.run_until_complete(list_all(world.kube, kind, world.resources, restored.append))
    assert restored == [kind.kind]
