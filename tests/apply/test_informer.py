"""The informer against the fake API server: what it has told always adds up to what exists."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from sendward.apply import kinds
from sendward.apply.informer import Informer, Name
from sendward.apply.kube import KubeClient
from sendward.apply.ports import Object
from tests.fakes.kube import FakeKube

LAST_PAGE = 1200


@dataclass
class Receiver:
    """A store as the operator's: what an informer tells it, and nothing else."""

    objects: dict[Name, Object] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)
    resets: int = 0
    restored: int = 0

    def on_event(self, kind: str, obj: Object) -> None:
        name = (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        self.events.append((kind, name[1]))
        if kind == "DELETED":
            self.objects.pop(name, None)
        else:
            self.objects[name] = obj

    def on_reset(self, names: Set[Name]) -> None:
        self.resets += 1
        self.objects = {name: obj for name, obj in self.objects.items() if name in names}

    def on_restored(self, kind: str) -> None:
        assert kind == "SenderAccount"
        self.restored += 1


def account(name: str, gateway: str = "g") -> Object:
    return {"metadata": {"name": name, "namespace": "n"}, "spec": {"gateways": [gateway]}}


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for is in a server
            await asyncio.sleep(0.01)


@pytest.fixture
async def fake() -> AsyncIterator[FakeKube]:
    async with FakeKube() as server:
        yield server


@pytest.fixture
async def client(fake: FakeKube) -> AsyncIterator[KubeClient]:
    one = KubeClient(fake.url)
    yield one
    await one.close()


@pytest.fixture
async def following(client: KubeClient) -> AsyncIterator[Callable[..., tuple[Informer, Receiver]]]:
    tasks: list[asyncio.Task[None]] = []

    def start(**options: Any) -> tuple[Informer, Receiver]:
        receiver = Receiver()
        informer = Informer(
            client,
            kinds.SENDER_ACCOUNT,
            receiver.on_event,
            receiver.on_reset,
            receiver.on_restored,
            **options,
        )
        tasks.append(asyncio.create_task(informer.run()))
        return informer, receiver

    yield start
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


Start = Callable[..., tuple[Informer, Receiver]]


async def test_all_pages_are_read(fake: FakeKube, following: Start) -> None:
    for number in range(LAST_PAGE):
        fake.put(kinds.SENDER_ACCOUNT, account(f"a{number}"))
    informer, receiver = following()
    await asyncio.wait_for(informer.ready.wait(), 20)
    assert len(receiver.objects) == LAST_PAGE
    assert fake.count("GET", "senderaccounts") >= 3


async def test_changes_arrive(fake: FakeKube, following: Start) -> None:
    informer, receiver = following()
    await informer.ready.wait()
    fake.put(kinds.SENDER_ACCOUNT, account("a"))
    fake.put(kinds.SENDER_ACCOUNT, account("a", "other"))
    fake.remove(kinds.SENDER_ACCOUNT, "n", "a")
    await until(lambda: len(receiver.events) == 3)
    assert receiver.events == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


async def test_ghosts_are_swept_after_a_410(fake: FakeKube, client: KubeClient, following: Start) -> None:
    for number in range(100):
        fake.put(kinds.SENDER_ACCOUNT, account(f"a{number}"))
    informer, receiver = following()
    await informer.ready.wait()
    # While the watch cannot come back, half the objects go and history is compacted.
    fake.fail(503, times=1000, matches=lambda request: "watch" in request.query)
    fake.drop_watches()
    await until(lambda: client.calls["watch", "SenderAccount"] >= 2)
    for number in range(50):
        fake.remove(kinds.SENDER_ACCOUNT, "n", f"a{number}")
    fake.put(kinds.SENDER_ACCOUNT, account("a99", "other"))
    fake.expire()
    told = len(receiver.events)
    fake.faults.clear()
    await until(lambda: len(receiver.objects) == 50)
    assert receiver.events[told:] == [("MODIFIED", "a99")]  # what did not change is not told again


async def test_a_closed_watch_goes_on_where_it_ended(
    fake: FakeKube, client: KubeClient, following: Start
) -> None:
    informer, receiver = following()
    await informer.ready.wait()
    for number in range(3):
        fake.put(kinds.SENDER_ACCOUNT, account(f"a{number}"))
        await until(lambda number=number: len(receiver.objects) == number + 1)  # type: ignore[misc]
        fake.drop_watches()
    fake.put(kinds.SENDER_ACCOUNT, account("last"))
    await until(lambda: len(receiver.objects) == 4)
    assert client.calls["list", "SenderAccount"] == 1
    assert len(receiver.events) == 4


async def test_a_bookmark_saves_a_quiet_kind_from_a_410(
    fake: FakeKube, client: KubeClient, following: Start
) -> None:
    informer, receiver = following()
    await informer.ready.wait()
    await until(lambda: client.calls["watch", "SenderAccount"] == 1)
    for number in range(20):
        fake.put(kinds.SECRET, {"metadata": {"name": f"s{number}", "namespace": "n"}})
    await until(lambda: fake.watching() == 1)
    fake.bookmark()
    await until(lambda: informer.position() == fake.version)
    fake.expire()
    fake.put(kinds.SENDER_ACCOUNT, account("a"))
    await until(lambda: receiver.objects)
    assert client.calls["list", "SenderAccount"] == 1


async def test_a_relist_comes_by_itself_and_costs_the_receiver_nothing(
    fake: FakeKube, following: Start
) -> None:
    fake.put(kinds.SENDER_ACCOUNT, account("a"))
    _, receiver = following(relist_seconds=0.2)
    await until(lambda: receiver.resets >= 2)
    assert receiver.events == [("ADDED", "a")]


async def test_a_restored_server_is_noticed_and_read_anew(fake: FakeKube, following: Start) -> None:
    fake.put(kinds.SENDER_ACCOUNT, account("a"))
    informer, receiver = following()
    await informer.ready.wait()
    fake.version -= 50  # a backup: another content may carry a number that was seen before
    fake.put(kinds.SENDER_ACCOUNT, account("b"))
    fake.expire()
    fake.fail(410, matches=lambda request: "watch" in request.query)
    await until(lambda: receiver.events.count(("ADDED", "a")) == 2)
    assert receiver.restored == 1


@pytest.mark.parametrize("bump", [0, 1000])
async def test_a_restore_is_noticed_by_one_object_however_far_the_server_went_on(
    fake: FakeKube, following: Start, bump: int
) -> None:
    old = fake.put(kinds.SENDER_ACCOUNT, account("a"))
    informer, receiver = following()
    await informer.ready.wait()
    fake.put(kinds.SENDER_ACCOUNT, account("a", "newer"))
    await until(lambda: len(receiver.events) == 2)
    fake.version += bump
    fake.restore(kinds.SENDER_ACCOUNT, old)
    fake.put(kinds.SENDER_ACCOUNT, account("b"))
    fake.fail(500)
    fake.drop_watches()
    await until(lambda: receiver.restored)
    await until(lambda: receiver.objects["n", "a"]["spec"] == old["spec"])


async def test_after_a_failure_everything_is_listed(fake: FakeKube, following: Start) -> None:
    """A server that was restored meanwhile would go on with the watch as if nothing had happened."""
    fake.put(kinds.SENDER_ACCOUNT, account("a"))
    _, receiver = following()
    await until(lambda: receiver.objects)
    fake.fail(500)
    fake.drop_watches()
    await until(lambda: receiver.resets == 2)
    assert not receiver.restored
    assert receiver.events == [("ADDED", "a")]


async def test_faults_of_the_server_are_survived(fake: FakeKube, following: Start) -> None:
    fake.fail(503, times=2)
    fake.fail(403)
    fake.fail(500)
    fake.put(kinds.SENDER_ACCOUNT, account("a"))
    _, receiver = following()
    await until(lambda: receiver.objects)


async def test_a_page_that_expires_midway_starts_anew(fake: FakeKube, following: Start) -> None:
    for number in range(5):
        fake.put(kinds.SENDER_ACCOUNT, account(f"a{number}"))
    fake.fail(410, matches=lambda request: "continue" in request.query)
    informer, receiver = following(page_size=2)
    await informer.ready.wait()
    assert len(receiver.objects) == 5
    assert informer.last_event_age() < 20


async def test_after_a_failure_it_follows_only_once_everything_was_listed(
    fake: FakeKube, following: Start
) -> None:
    """What it told may be newer than what a restored server has: nobody may decide by it."""
    for number in range(5):
        fake.put(kinds.SENDER_ACCOUNT, account(f"a{number}"))
    informer, receiver = following(page_size=2)
    await informer.ready.wait()
    assert informer.is_following()
    fake.fail(500)
    fake.fail(500, times=3, matches=lambda request: "continue" in request.query)
    fake.drop_watches()
    await until(lambda: not informer.is_following())
    fake.put(kinds.SENDER_ACCOUNT, account("b"))
    async with asyncio.timeout(20):
        while receiver.resets < 2:
            assert not informer.is_following(), "of some pages only"
            await asyncio.sleep(0)
    await until(informer.is_following)
