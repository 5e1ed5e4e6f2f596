"""Our own listing of the kinds that kopf watches: at once, after a gap, from time to time, and again until it
succeeds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from sendward.apply import kinds
from sendward.apply.ports import Gone, Kind, Page
from sendward.clock import SystemClock
from sendward.controller import listing
from sendward.controller.dirty import Dirty
from sendward.controller.listing import Listing
from sendward.controller.watch import Resources
from sendward.errors import Forbidden, SendwardError, Unavailable
from sendward.graph.store import Store
from tests.core.harness import TENANT
from tests.fakes.memory import MemoryKube

KIND = kinds.RATE_LIMIT_POLICY
SHORT = 0.01


@dataclass
class PagedKube(MemoryKube):
    """Shows one object a page. `fails` picks the page (1, 2, ...) of a listing that fails with `error`."""

    pages: int = 0  # that were asked for in the present listing
    listings: int = 0  # that were begun
    fails: int = 0
    error: SendwardError | Gone = field(default_factory=lambda: Unavailable("down"))
    free: asyncio.Event = field(default_factory=asyncio.Event)  # else a listing waits at its first page

    def __post_init__(self) -> None:
        self.free.set()

    async def page(self, kind: Kind, *, continue_token: str = "", **options: Any) -> Page:
        if not continue_token:
            self.listings += 1
            self.pages = 0
        self.pages += 1
        await self.free.wait()
        if self.pages == self.fails:
            raise self.error
        return await super().page(kind, continue_token=continue_token, **{**options, "limit": 1})

    def declare(self, *policies: str) -> None:
        for name in policies:
            spec = {"account": [{"messages": 1, "per": "1s"}]}
            self.put(KIND, {"metadata": {"namespace": TENANT, "name": name}, "spec": spec})

    def lose(self, policy: str) -> None:
        """It vanishes, and no watch tells."""
        del self.objects[KIND.plural, TENANT, policy]


class Followed:
    """A running `Listing`, what it lists and where to. `async with`."""

    def __init__(self) -> None:
        store = Store()
        self.kube = PagedKube()
        self.resources = Resources(store, Dirty(store, SystemClock()), lambda _uid: None)
        self.listing = Listing(self.kube, KIND, self.resources, self._restored)
        self.gap = self.resources.gaps[KIND.kind]
        self.task: asyncio.Task[None] | None = None

    @staticmethod
    def _restored(kind: str) -> None:
        raise AssertionError(kind)

    def start(self) -> None:
        self.task = asyncio.create_task(self.listing.run())

    @property
    def known(self) -> set[str]:
        return {key.name for key in self.resources.versions(KIND.kind)}

    async def until(self, condition: Callable[[], bool]) -> None:
        """Ends at once, with the listing's error, when that has ended."""
        async with asyncio.timeout(20):
            while not condition():
                if self.task is not None and self.task.done():
                    self.task.result()
                await asyncio.sleep(SHORT / 2)


@pytest.fixture
async def followed(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Followed]:
    """Of two policies; not begun."""
    for pause in ("_RETRY", "_SETTLE"):
        monkeypatch.setattr(listing, pause, SHORT)
    made = Followed()
    made.kube.declare("one", "two")
    yield made
    if made.task is not None:
        made.task.cancel()
        with suppress(asyncio.CancelledError):
            await made.task


async def test_it_lists_at_once_and_follows_from_then_on(followed: Followed) -> None:
    assert not followed.listing.is_following()
    followed.start()
    await followed.until(followed.listing.ready.is_set)
    assert followed.listing.is_following()
    assert followed.known == {"one", "two"}
    assert followed.kube.listings == 1


async def test_after_a_gap_it_lists_again_and_does_not_follow_until_it_has(followed: Followed) -> None:
    """What was dropped is taken up: one policy is new, one vanished."""
    followed.start()
    await followed.until(followed.listing.ready.is_set)
    followed.kube.lose("one")
    followed.kube.declare("three")
    followed.kube.free.clear()
    followed.gap.set()
    assert not followed.listing.is_following()
    await followed.until(lambda: followed.kube.listings == 2)
    assert not followed.listing.is_following()
    assert followed.known == {"one", "two"}
    followed.kube.free.set()
    await followed.until(followed.listing.is_following)
    assert followed.known == {"two", "three"}


async def test_a_gap_while_it_lists_makes_it_list_once_more(followed: Followed) -> None:
    followed.start()
    await followed.until(followed.listing.ready.is_set)
    followed.kube.free.clear()
    followed.gap.set()
    await followed.until(lambda: followed.kube.listings == 2)
    followed.gap.set()
    followed.kube.free.set()
    await followed.until(lambda: followed.kube.listings == 3)
    await followed.until(followed.listing.is_following)


async def test_without_a_gap_it_lists_from_time_to_time(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that a watch never told is made good without anybody's notice."""
    monkeypatch.setattr(listing, "_EVERY", SHORT)
    followed.start()
    await followed.until(followed.listing.ready.is_set)
    followed.kube.lose("one")
    followed.kube.declare("three")
    await followed.until(lambda: followed.known == {"two", "three"})
    seen = followed.kube.listings
    await followed.until(lambda: followed.kube.listings > seen + 1)
    assert followed.listing.is_following()


@pytest.mark.parametrize("page", [1, 2])
@pytest.mark.parametrize("error", [Unavailable("500"), Forbidden("403")], ids=["500", "403"])
async def test_before_the_first_listing_has_succeeded_it_is_not_ready(
    followed: Followed, error: SendwardError, page: int
) -> None:
    followed.kube.fails, followed.kube.error = page, error
    followed.start()
    await followed.until(lambda: followed.kube.listings > 2)
    assert not followed.listing.ready.is_set()
    assert not followed.listing.is_following()
    followed.kube.fails = 0
    await followed.until(followed.listing.is_following)
    assert followed.known == {"one", "two"}


@pytest.mark.parametrize("page", [1, 2])
@pytest.mark.parametrize("error", [Unavailable("500"), Forbidden("403")], ids=["500", "403"])
async def test_a_gap_waits_for_as_long_as_listings_fail_and_nothing_is_forgotten_meanwhile(
    followed: Followed, error: SendwardError, page: int
) -> None:
    followed.start()
    await followed.until(followed.listing.ready.is_set)
    followed.kube.lose("one")
    followed.kube.declare("three")
    followed.kube.fails, followed.kube.error = page, error
    before = followed.kube.listings
    followed.gap.set()
    await followed.until(lambda: followed.kube.listings > before + 2)
    assert not followed.listing.is_following()
    assert followed.known >= {"one", "two"}
    followed.kube.fails = 0
    await followed.until(followed.listing.is_following)
    assert followed.known == {"two", "three"}


async def test_a_continue_token_that_is_too_old_makes_it_begin_anew(followed: Followed) -> None:
    """The API server answers 410 to a further page when etcd was compacted since the first one."""
    followed.kube.fails, followed.kube.error = 2, Gone("410")
    followed.start()
    await followed.until(lambda: followed.kube.listings > 1)
    followed.kube.fails = 0
    await followed.until(followed.listing.is_following)
